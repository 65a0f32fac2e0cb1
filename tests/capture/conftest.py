"""The same nightly profile as for the laws, smaller: each example is an export."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "nightly-capture", max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
