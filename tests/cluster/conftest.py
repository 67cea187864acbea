"""Real Redis servers for nodes."""

from __future__ import annotations

from tests.stores.conftest import redis, shared_redis, start_redis  # noqa: F401 - fixtures
