"""A read-only hub served from a folder: the REST API that ``huggingface_hub`` clients speak, and nothing else.

It stands in for the public hub where there is none (air-gapped clusters, tests, the demo). The real clients run
against it unmodified: ``HF_ENDPOINT=http://127.0.0.1:PORT`` or ``HfApi(endpoint=...)``.

Folder layout
-------------
::

    ROOT/models/<owner>/<name>/...             the repo's files, exactly as a client shall receive them
    ROOT/models/<owner>/<name>/.hub.yaml       optional: what the hub knows about the repo; never served, not hashed
    ROOT/datasets/<owner>/<name>/...           the same for data sets (API under /api/datasets, files under /datasets)

Hidden files (any path part that starts with a dot) are not part of a repo, except ``.gitattributes``. Symbolic links
are followed only while they stay inside ROOT; one that leaves it is refused when the folder is opened. A repo
without ``.hub.yaml`` is public, free to read, and has zero downloads.

``.hub.yaml`` (every key optional; an unknown key or a bad value is an ``InputError`` that names file, key, allowed)::

    downloads: 1200            # int >= 0; /api/models ranks by it
    likes: 7                   # int >= 0
    author: owner              # default: the owner folder
    created_at: 2024-01-01T00:00:00Z       # default: 2024-01-01T00:00:00.000Z
    last_modified: 2024-02-01T00:00:00Z    # default: created_at
    tags: [text-to-image]      # the hub's own tags (library, pipeline_tag, license:, base_model:, region:) are added
    pipeline_tag: text-to-image            # default: the card's, else none
    library_name: diffusers    # default: the card's, else diffusers; null for none
    gated: false               # false | auto | manual: listed and described for everyone, files need a token (403/401)
    private: false             # true: only visible with the token below (else 404)
    card_data: {license: mit}  # default: the YAML front matter of README.md
    gated_token: hf_open       # the bearer token that opens a gated or private repo; without it nobody gets in
    behaviour:                 # a repo that misbehaves, for tests and the demo
      missing: true                            # deleted: still listed, but info and files answer 404
      rate_limit: {requests: 2, retry_after: 1}  # the first N requests answer 429 with Retry-After (seconds)
      broken_first: 2                          # the first N file requests answer 503
      cut_after_bytes: 4096                    # once: the first longer body ends after so many bytes
      corrupt: [unet/model.safetensors]        # last byte differs; announced size and sha256 are the good ones
      bytes_per_second: 100000                 # all bodies of this repo together
      delay_seconds: 0.5                       # before every answer about this repo

``gated_token`` may stand at the top level or under ``behaviour``. The commit of a repo is a 40-digit hash of its
paths and contents, so two folders with equal files have equal revisions; ``main`` and the full hash both resolve.

A server that was started with a ``fault_token`` also misbehaves on request while it runs: see ``faults``.

Modules
-------
``options`` (``HubOptions``), ``settings`` (.hub.yaml), ``git_objects`` and ``hash_cache`` (what files are known by),
``card``, ``folder`` (``HubFolder``), ``visitors`` (who may see what, and told faults), ``faults`` and ``fault_control``
(faults at run time), ``listing``, ``describe``, ``file_body``, ``pacing``, ``errors``, ``request_log``, ``app``
(``build_app``), ``server`` (``serve``, ``HubServer``).
Nothing is imported here: aiohttp is slow to import and ``commforge --help`` must not wait for it.
"""
