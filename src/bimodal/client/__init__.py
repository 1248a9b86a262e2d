"""The clients of a running server: Client for plain programs and threads, AsyncClient for asyncio."""

from bimodal.client.asynchronous import AsyncClient
from bimodal.client.sync import Client

__all__ = ["AsyncClient", "Client"]
