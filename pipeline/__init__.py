"""Run it all: the CLI, the stages, the scheduler, the executors and the worker."""
