"""Work in progress, as displays, `status`, Flower and Prometheus show it."""
