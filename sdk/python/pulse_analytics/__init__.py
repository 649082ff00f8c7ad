"""The SDK of pulse for servers: events are sent in the background, and each counts once.

    from pulse_analytics import Pulse

    pulse = Pulse("WRITE_KEY", "https://pulse.example")
    pulse.track("order", user_id="ada", properties={"total": 12.5})

Safe to use from any thread and across forks. With `disk`, events wait in a file and survive the process.
"""
from .client import Problem, Pulse
from .version import VERSION as __version__

__all__ = ["Problem", "Pulse"]
