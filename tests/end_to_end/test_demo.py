"""`lastack demo` shows the leak and its end, and leaves nothing behind."""

import re
import signal
import unittest

from harness import LASTACK, Process, children_of, is_gone, main, wait_for


class Demo(unittest.TestCase):
    def test_one_lane_leaks_and_the_other_ends_with_nothing(self):
        with Process([LASTACK, "demo", "--duration", "6s", "--clients", "50"]) as demo:
            self.assertEqual(demo.wait(), 0, demo.lines)
        counts = [[int(number) for number in re.findall(r"\d+", line)]
                  for line in demo.lines if re.match(r" +\d+ +\d+ ", line)]
        self.assertGreaterEqual(len(counts), 6)
        self.assertEqual(counts[-1][1:], [100, 0])
        self.assertGreater(max(row[2] for row in counts), 0)
        text = " ".join(demo.lines)
        self.assertIn("100 got their whole answer without lastack, 100 with it", text)
        self.assertIn("Verdict: the leak is finished", text)

    def test_interrupted_it_leaves_no_process(self):
        with Process([LASTACK, "demo"]) as demo:
            demo.wait_for_line(r"^ +1 +\d+")
            children = children_of(demo.pid)
            self.assertEqual(len(children), 2)
            demo.signal(signal.SIGINT)
            demo.wait()
            wait_for(lambda: all(is_gone(child) for child in children), "the services are gone")

    def test_refuses_a_wrong_command_line(self):
        for arguments in (["--duration", "1s"], ["--duration", "long"], ["--clients", "0"], ["--clients", "501"],
                          ["--duration", "10m", "--clients", "100"], ["now"]):
            with Process([LASTACK, "demo", *arguments]) as demo:
                self.assertEqual(demo.wait(), 2, arguments)


if __name__ == "__main__":
    main()
