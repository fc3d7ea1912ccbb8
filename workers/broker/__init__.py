"""What carries messages between processes: Celery's application, the queues, the dispatcher."""
