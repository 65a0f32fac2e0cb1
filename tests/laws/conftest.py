"""Random networks: a few hundred of them on every change, ten thousand at night."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "nightly",
    max_examples=10_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
