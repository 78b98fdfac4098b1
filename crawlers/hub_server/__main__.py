"""``python -m crawlers.hub_server ROOT PORT PARENT``: the process behind ``server.HubServer``.

Options come as JSON on standard input; one JSON line on standard output says the endpoint or the error.
"""

import json
import logging
import sys

from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import serve
from manifests.errors import InputError


def main() -> int:
    root, port, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(format="hub: %(message)s")
    options = HubOptions.model_validate_json(sys.stdin.read())

    def say(**message: str) -> None:
        print(json.dumps(message), flush=True)

    try:
        serve(root, port=port, options=options, ready=lambda endpoint: say(endpoint=endpoint), parent=parent)
    except InputError as error:
        say(error=str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
