"""One request, and what its answer means."""
import email.utils
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Dict, List

LONGEST_ANSWER = 8 << 20
REFUSED_AGAIN = 300.0


@dataclass
class Done:
    """All of it was looked at; what was refused stays so."""

    rejected: List[Dict[str, Any]] = field(default_factory=list)


@dataclass
class Smaller:
    """It is to be sent in smaller pieces, until a single event is refused."""

    code: str
    message: str


@dataclass
class Again:
    """Nothing was taken; to be sent again after so many seconds at least."""

    after: float
    code: str
    message: str


def post(url, key, body, timeout):
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        "User-Agent": "pulse-python/0.1.0",
    }
    try:
        request = urllib.request.Request(url, body, headers, method="POST")
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return judge(response.status, response.headers, response.read(LONGEST_ANSWER))
    except urllib.error.HTTPError as refused:
        with refused:
            try:
                answer = refused.read(LONGEST_ANSWER)
            except Exception:
                answer = b""
            return judge(refused.code, refused.headers, answer)
    except Exception as problem:  # Whatever a network and what stands in it can do.
        return Again(0.0, "unreachable", str(problem))


def judge(status, headers, body):
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    answer = answer if isinstance(answer, dict) else {}
    code, message = str(answer.get("code", "unreachable")), str(answer.get("message", f"the server answers {status}"))
    # Anything may stand between: what does not speak as pulse does has taken nothing.
    if status in (200, 400) and isinstance(answer.get("rejected"), list):
        return Done([refused for refused in answer["rejected"] if isinstance(refused, dict)])
    if status == 413 or status == 400 and "code" in answer:
        return Smaller(code, message)
    if 400 < status < 500 and status not in (408, 429):
        return Again(REFUSED_AGAIN, code, message)
    return Again(_after(headers.get("Retry-After")), code, message)


def _after(text):
    """Seconds of a `Retry-After`, which is a number of them or a date."""
    if not text:
        return 0.0
    try:
        return max(0.0, float(int(text)))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
