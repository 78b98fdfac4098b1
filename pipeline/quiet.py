"""Silence the libraries' own progress bars: ours is the only one, and a worker's log shall hold what went wrong."""


def quiet_libraries() -> None:
    """Turn off the progress bars of diffusers, transformers and huggingface_hub, and their chatter below errors."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils import disable_progress_bars

    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
    disable_progress_bars()
