"""The ASGI shell: a middleware that puts an application's model routes under policy."""

from luthien_guard.asgi.handle import ExchangeHandle, current_exchange
from luthien_guard.asgi.middleware import GuardMiddleware

__all__ = ["ExchangeHandle", "GuardMiddleware", "current_exchange"]
