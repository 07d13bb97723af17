"""The ASGI shell: a middleware that puts an application's model routes under policy."""

from luthien_guard.asgi.handle import ExchangeHandle, current_exchange
from luthien_guard.asgi.middleware import POLICY_SET, USER, GuardMiddleware

__all__ = ["POLICY_SET", "USER", "ExchangeHandle", "GuardMiddleware", "current_exchange"]
