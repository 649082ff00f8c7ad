"""The client against a server that is as bad as it is told to be."""
import collections
import datetime
import fractions
import gzip
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
import unittest
import unittest.mock

from pulse_analytics import Pulse

# For what must happen at some time.
PATIENCE = 120


class Server(http.server.ThreadingHTTPServer):
    """Answers with the statuses in `answers`, one a request, and then with 200."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.answers, self.batches, self.stored = collections.deque(), [], collections.Counter()
        self.most, self.elsewhere = 1_000, []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.elsewhere.append((self.path, self.headers.get("Authorization")))
        self.send_error(405)

    def do_POST(self):
        body = json.loads(gzip.decompress(self.rfile.read(int(self.headers["Content-Length"]))))
        events, server = body["batch"], self.server
        server.batches.append(body)
        status, text, *headers = server.answers.popleft() if server.answers else (200, None)
        if len(events) > server.most:
            status = 413
        if status == 200 and text is None:
            server.stored.update(event["eventId"] for event in events)
            text = json.dumps({"accepted": len(events), "rejected": []})
        text = (text or json.dumps({"code": "log_unavailable", "message": "try again"})).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)


class ClientTest(unittest.TestCase):
    def setUp(self):
        self.server, self.problems = Server(), []
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def client(self, **given):
        client = Pulse("k", self.server.address, **{"on_error": self.problems.append, "flush_interval": 0.05, **given})
        self.addCleanup(client.close, 0)
        return client

    def until(self, is_so):
        end = time.monotonic() + PATIENCE
        while not is_so():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def assert_stored(self, count):
        self.assertEqual((len(self.server.stored), sum(self.server.stored.values())), (count, count))

    def test_what_threads_send_at_once_arrives_once(self):
        client = self.client()
        threads = [threading.Thread(target=lambda: [client.track("a", "u", {"x": 1}) for _ in range(200)]) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        self.assertTrue(client.flush(PATIENCE))
        self.assert_stored(1_600)
        self.assertEqual(self.problems, [])

    def test_what_was_not_taken_is_sent_again_with_the_time_of_then(self):
        self.server.answers.extend([(503, None), (429, None), (200, "<html>sign in</html>")])
        client = self.client()
        client.track("a", "u")
        self.assertTrue(client.flush(PATIENCE))
        self.assert_stored(1)
        first, last = self.server.batches[0], self.server.batches[-1]
        self.assertEqual((len(self.server.batches), first["batch"]), (4, last["batch"]))
        self.assertGreater(last["sentAt"], first["sentAt"])
        self.assertEqual([problem.code for problem in self.problems], ["log_unavailable", "unreachable"])

    def test_a_server_is_left_alone_for_as_long_as_it_asks(self):
        self.server.answers.append((503, None, ("Retry-After", "2")))
        client = self.client()
        client.track("a", "u")
        self.assertTrue(client.flush(PATIENCE))
        first, last = self.server.batches
        self.assertGreaterEqual(last["sentAt"] - first["sentAt"], 2_000)
        self.assert_stored(1)

    def test_a_pause_of_its_own_is_over_for_those_who_wait(self):
        self.server.answers.append((404, None))
        client = self.client()
        client.track("a", "u")
        self.until(lambda: self.problems)
        self.assertTrue(client.flush(PATIENCE))
        self.assert_stored(1)

    def test_before_it_ends_it_asks_once_more_whatever_the_server_has_asked_for(self):
        self.server.answers.append((503, None, ("Retry-After", "3600")))
        client = self.client()
        client.track("a", "u")
        self.until(lambda: self.problems)
        self.assertFalse(client.flush(0.2))
        self.assertEqual(len(self.server.batches), 1)
        self.assertTrue(client.close(8))
        self.assert_stored(1)

    def test_what_is_closed_waits_for_nothing(self):
        self.server.answers += [(503, None)] * 1_000
        client = self.client()
        client.track("a", "u")
        self.until(lambda: self.problems)
        flushed = []
        flush = threading.Thread(target=lambda: flushed.append(client.flush(None)), daemon=True)
        flush.start()
        self.until(lambda: client._wants_all)
        self.assertFalse(client.close(0))
        flush.join(PATIENCE)
        self.assertEqual(flushed, [False])
        # It would wait for as long as it is given.
        self.assertEqual([client.close(None), client.flush(None)], [False, False])
        self.assertEqual([problem.code for problem in self.problems].count("not_sent"), 1)

    def test_where_the_server_sends_to_is_told_and_gets_no_key(self):
        self.server.answers.append((302, "", ("Location", f"{self.server.address}/elsewhere")))
        client = self.client()
        client.track("a", "u")
        self.until(lambda: self.problems)
        self.assertIn("/elsewhere", self.problems[0].message)
        self.assertEqual(self.server.elsewhere, [("/elsewhere", None)])
        self.server.answers.append((308, "", ("Location", f"{self.server.address}/moved")))
        client.flush(0)
        self.until(lambda: len(self.problems) == 2)
        self.assertIn("/moved", self.problems[1].message)
        self.assertTrue(client.flush(PATIENCE))
        self.assert_stored(1)

    def test_a_clock_that_is_wrong_or_jumps_loses_nothing_and_is_told_by_itself(self):
        right = time.time_ns
        self.addCleanup(setattr, time, "time_ns", right)
        days = 86_400 * 10**9
        client = self.client(flush_interval=0.2)
        for number, behind in enumerate((3 * days, -2 * days, 400 * days, 0)):
            time.time_ns = lambda: right() - behind
            client.track("a", "u", {"n": number})
        self.assertTrue(client.flush(PATIENCE))
        time.time_ns = lambda: right() - 3 * days
        client.track("b", "u")
        self.assertTrue(client.flush(PATIENCE))
        self.assert_stored(5)
        # By the same clock, so that a server can tell how far it is off.
        last = self.server.batches[-1]
        self.assertEqual([event["type"] for event in last["batch"]], ["b"])
        self.assertLess(abs(last["sentAt"] - last["batch"][0]["timestamp"]), PATIENCE * 1_000)
        self.assertLess(last["sentAt"], right() // 10**6 - 2 * 86_400_000)

    def test_a_batch_that_is_too_large_is_cut(self):
        self.server.most = 3
        client = self.client()
        for _ in range(20):
            client.track("a", "u")
        self.assertTrue(client.flush(PATIENCE))
        self.assert_stored(20)

    def test_what_is_refused_for_ever_is_told_and_not_sent_again(self):
        refused = {"accepted": 0, "rejected": [{"index": 0, "eventId": "e", "code": "user_required", "message": "m"}]}
        self.server.answers.append((400, json.dumps(refused)))
        client = self.client()
        client.track("a", event_id="e")
        self.assertTrue(client.flush(PATIENCE))
        self.assertEqual([(problem.code, problem.event_id) for problem in self.problems], [("user_required", "e")])
        self.assertEqual(len(self.server.batches), 1)

    def test_what_cannot_be_sent_is_told(self):
        client = self.client(flush_interval=3_600, max_queue=2)
        client.track("a", "u", {"x": float("nan")})
        client.track("a", "u", nobody="x")
        for _ in range(3):
            client.track("a", "u")
        self.assertEqual([problem.code for problem in self.problems], ["event_unreadable", "event_unreadable", "queue_full"])

    def test_numbers_are_somebody(self):
        client = self.client()
        client.track("a", 42, anonymous_id=7, session_id=9)
        client.alias(1, 2)
        self.assertTrue(client.flush(PATIENCE))
        first, second = (event for body in self.server.batches for event in body["batch"])
        self.assertEqual([first["userId"], first["anonymousId"], first["sessionId"]], ["42", "7", "9"])
        self.assertEqual([second["previousId"], second["userId"]], ["1", "2"])

    def test_no_call_raises_and_what_stands_for_json_is_taken(self):
        class Array:
            def tolist(self):
                return [1, 2]

        os.environ["TZ"] = "EST5"
        time.tzset()
        self.addCleanup(time.tzset)
        self.addCleanup(os.environ.pop, "TZ")
        client = self.client(flush_interval=3_600)
        client.group("u", "g", [1])
        client.track("a", "u", {"at": datetime.datetime.max})
        self.assertEqual([problem.code for problem in self.problems], ["event_unreadable", "event_unreadable"])
        client.track("a", "u", types.MappingProxyType({"array": Array(), "half": fractions.Fraction(1, 2), "more": types.MappingProxyType({"x": 1})}))
        client.group("u", "g", types.MappingProxyType({"seats": 5}))
        self.assertTrue(client.flush(PATIENCE))
        stored = [event["properties"] for body in self.server.batches for event in body["batch"]]
        self.assertEqual(stored, [{"array": [1, 2], "half": 0.5, "more": {"x": 1}}, {"seats": 5, "groupId": "g"}])

    def test_where_no_thread_starts_flush_and_close_send(self):
        start = threading.Thread.start

        def refuse(thread):
            if thread.name == "pulse-sender":
                raise RuntimeError("can't create new thread at interpreter shutdown")
            start(thread)

        self.server.answers.append((503, None))
        with unittest.mock.patch.object(threading.Thread, "start", refuse):
            for ends in ("flush", "close"):
                client = self.client()
                client.track("a", "u")
                self.assertTrue(getattr(client, ends)(PATIENCE))
                client.close(0)
            self.assert_stored(2)
            self.server.answers.append((503, None, ("Retry-After", "2")))
            client = self.client()
            client.track("a", "u")
            self.assertFalse(client.flush(1))
            self.assertTrue(client.flush(PATIENCE))
            first, last = self.server.batches[-2:]
            self.assertEqual(first["batch"], last["batch"])
            self.assertGreaterEqual(last["sentAt"] - first["sentAt"], 2_000)

    def test_a_child_that_cannot_open_its_queue_sends_from_memory(self):
        folder = tempfile.mkdtemp()
        client = self.client(disk=os.path.join(folder, "queue"))
        shutil.rmtree(folder)
        if (child := os.fork()) == 0:
            # For a lock that is held for ever.
            signal.alarm(PATIENCE)
            client.track("a", "u")
            os._exit(not client.close(PATIENCE))
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assert_stored(1)

    def test_children_send_what_is_theirs_and_nothing_of_their_parent(self):
        for disk in (None, os.path.join(tempfile.mkdtemp(), "queue")):
            self.server.stored.clear()
            client = self.client(disk=disk)
            children = []
            for _ in range(4):
                client.track("a", "u")
                if (child := os.fork()) == 0:
                    [client.track("a", "u") for _ in range(50)]
                    os._exit(not client.close(PATIENCE))
                children.append(child)
            self.assertEqual([os.waitpid(child, 0)[1] for child in children], [0, 0, 0, 0])
            self.assertTrue(client.close(PATIENCE))
            self.assert_stored(204)

    def test_what_is_on_disk_survives_a_process_that_is_killed(self):
        disk = os.path.join(tempfile.mkdtemp(), "queue")
        script = f"""if True:
            import os, signal, pulse_analytics
            client = pulse_analytics.Pulse("k", {self.server.address!r}, disk={disk!r}, flush_interval=3600)
            [client.track("a", "u") for _ in range(30)]
            os.kill(os.getpid(), signal.SIGKILL)"""
        ended = subprocess.run([sys.executable, "-c", script], check=False)
        self.assertEqual((ended.returncode, len(self.server.stored)), (-signal.SIGKILL, 0))
        client = self.client(disk=disk)
        self.assertTrue(client.flush(PATIENCE))
        self.assert_stored(30)


if __name__ == "__main__":
    unittest.main()
