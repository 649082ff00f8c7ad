"""What applications do with SDKs for Python: the same as servers.cjs, until its standard input ends."""
import importlib.metadata
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings

# Here, not in the threads: two that import the same at once find half of it.
import amplitude as _  # noqa: F401
import mixpanel as _  # noqa: F401
import opentelemetry.exporter.otlp.proto.http._log_exporter as _  # noqa: F401
import opentelemetry.sdk._logs.export as _  # noqa: F401
import posthog as _  # noqa: F401
import rudderstack.analytics as _  # noqa: F401
import segment.analytics as _  # noqa: F401
import snowplow_tracker as _  # noqa: F401

OURS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../sdk/python")
sys.path.insert(0, OURS)
import pulse_analytics  # noqa: E402

NUMBERS = range(int(os.environ.get("ORDERS", "12")))
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")


class Of:
    """One SDK in one run."""

    def __init__(self, name, run, key, host=None, hosts=None):
        self.name, self.run, self.key, self.host = name, run, key, (hosts or {}).get(name, host)
        self.user = re.sub("[^a-zA-Z0-9]+", "-", f"{name} {run}")
        self.customer = {"sdk": name, "run": run, "team": "blue"}

    def order(self, n):
        return {"sdk": self.name, "run": self.run, "n": n, "total": 12.5}


def segment(of):
    import segment.analytics.client as analytics

    client = analytics.Client(of.key, host=of.host)
    client.identify(of.user, of.customer, anonymous_id=f"d-{of.user}")
    for n in NUMBERS:
        client.track(of.user, "order", of.order(n))
    client.flush()


def rudderstack(of):
    import rudderstack.analytics.client as analytics

    client = analytics.Client(of.key, host=of.host)
    client.identify(of.user, of.customer, anonymous_id=f"d-{of.user}")
    for n in NUMBERS:
        client.track(of.user, "order", of.order(n))
    client.flush()


def posthog(of):
    from posthog import Posthog

    client = Posthog(of.key, host=of.host)
    client.set(distinct_id=of.user, properties=of.customer)
    client.alias(f"d-{of.user}", of.user)
    for n in NUMBERS:
        client.capture("order", distinct_id=of.user, properties=of.order(n))
    client.shutdown()


def amplitude(of):
    from amplitude import Amplitude, BaseEvent, EventOptions, Identify

    client = Amplitude(of.key)
    client.configuration.server_url = f"{of.host}/2/httpapi"
    client.configuration.flush_interval_millis = 100
    identify = Identify()
    for name, value in of.customer.items():
        identify.set(name, value)
    client.identify(identify, EventOptions(user_id=of.user, device_id=f"d-{of.user}"))
    for n in NUMBERS:
        client.track(BaseEvent("order", user_id=of.user, device_id=f"d-{of.user}", event_properties=of.order(n)))
    client.flush()


def mixpanel(of):
    from mixpanel import BufferedConsumer, Mixpanel

    consumer = BufferedConsumer(
        events_url=f"{of.host}/track", people_url=f"{of.host}/engage", import_url=f"{of.host}/import", groups_url=f"{of.host}/groups"
    )
    client = Mixpanel(of.key, consumer=consumer)
    # Its `alias` always asks Mixpanel's own server.
    client.people_set(of.user, of.customer)
    # Every sixth as history, whose key is a secret. Last, for the consumer has one key for all that it holds.
    for n in NUMBERS:
        if n % 6 != 5:
            client.track(of.user, "order", of.order(n))
    for n in NUMBERS[5::6]:
        client.import_data(None, of.user, "order", int(time.time()), of.order(n), api_secret=of.key)
    consumer.flush()


def snowplow(of):
    from snowplow_tracker import EmitterConfiguration, SelfDescribing, SelfDescribingJson, Snowplow, Subject

    config = EmitterConfiguration(batch_size=5)
    subject = Subject().set_user_id(of.user)
    tracker = Snowplow.create_tracker(namespace=f"t-{of.run}", endpoint=of.host, app_id=of.key, subject=subject, emitter_config=config)
    for n in NUMBERS:
        tracker.track(SelfDescribing(SelfDescribingJson("iglu:com.example/order/jsonschema/1-0-0", of.order(n))))
    tracker.flush(is_async=False)


def opentelemetry(of):
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    exporter = OTLPLogExporter(endpoint=f"{of.host}/v1/logs", headers={"x-write-key": of.key}, timeout=60)
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, schedule_delay_millis=100))
    logger = provider.get_logger("shop")
    for n in NUMBERS:
        logger.emit(event_name="order", timestamp=time.time_ns(), attributes={"user.id": of.user, **of.order(n)})
    provider.force_flush(60_000)
    provider.shutdown()


def ours(of):
    client = pulse_analytics.Pulse(of.key, of.host, flush_at=5, flush_interval=0.1)
    client.identify(of.user, of.customer, anonymous_id=f"d-{of.user}")
    for n in NUMBERS:
        client.track("order", of.user, of.order(n))
    client.close(600)


# One process is killed with all that it has to send; the next finds it, and forks another that sends some as well.
PROCESS = """
import json, os, signal, sys
from pulse_analytics import Pulse

key, host, disk, user, customer, orders, part = json.loads(sys.argv[1])
client = Pulse(key, host, disk=disk, flush_interval=3600 if part == 0 else 0.1, on_error=lambda problem: None)
send = lambda part: [client.track("order", user, order) for order in orders if order["n"] % 3 == part]
send(part)
if part == 0:
    client.identify(user, customer)
    os.kill(os.getpid(), signal.SIGKILL)
if (child := os.fork()) == 0:
    send(2)
    client.close(600)
    os._exit(0)
client.close(600)
os.waitpid(child, 0)
"""


def ours_on_disk(of):
    orders = [of.order(n) for n in NUMBERS]
    with tempfile.TemporaryDirectory() as folder:
        for part in (0, 1):
            given = json.dumps([of.key, of.host, os.path.join(folder, "queue"), of.user, of.customer, orders, part])
            process = subprocess.Popen([sys.executable, "-c", PROCESS, given], env={**os.environ, "PYTHONPATH": OURS}, start_new_session=True)
            STARTED.append(process)
            process.wait()


# By package; two registries have a package of this name.
SDKS = {
    "segment-analytics-python": segment,
    "rudder-sdk-python": rudderstack,
    "posthog": posthog,
    "amplitude-analytics": amplitude,
    "mixpanel": mixpanel,
    "snowplow-tracker": snowplow,
    "opentelemetry-sdk": opentelemetry,
    "pulse-analytics": ours,
    "pulse-analytics (disk)": ours_on_disk,
}
STARTED = []


def attempt(package, of):
    version = pulse_analytics.__version__ if package.startswith("pulse-") else importlib.metadata.version(package)
    say({"sdk": of.name, "run": of.run, "version": version, "sent": len(NUMBERS)})
    try:
        SDKS[package](of)
    except Exception as raised:  # The test decides what it means.
        say({"sdk": of.name, "run": of.run, "problem": repr(raised)})


def say(line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


wanted = [name for name in os.environ.get("SDKS", "").split(",") if name] or list(SDKS)
threads = []
for each in json.loads(os.environ["RUNS"]):
    for package in wanted:
        of = Of("mixpanel (Python)" if package == "mixpanel" else package, **each)
        threads.append(threading.Thread(target=attempt, args=(package, of), daemon=True))
for thread in threads:
    thread.start()
sys.stdin.read()
for process in STARTED:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
os._exit(0)
