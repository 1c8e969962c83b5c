"""Alerts: what must be told of migrations, groups and hosts, to whom, over e-mail and webhooks, once and surely."""
