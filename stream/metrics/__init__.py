"""What a process says of itself: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever runs it."""
