"""Messages between processes: the Celery application, the queues, the dispatcher."""
