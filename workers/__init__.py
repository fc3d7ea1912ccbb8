"""The processes around the pipeline library: Celery tasks, dispatcher, supervisor and command line."""
