"""A toy instrument, tasks and pipelines to run real quanta on a real Butler in milliseconds."""
