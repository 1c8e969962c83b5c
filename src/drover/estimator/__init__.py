"""The migration estimator: observes running VMs, measures the link, and forecasts duration, downtime and bytes."""
