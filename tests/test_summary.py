#!/usr/bin/env python3
"""The counting line of the test run, against logs with planted failures, crashes and skips."""
import unittest

import summary

DOCTEST = ("[doctest] test cases:  {0} | {1} passed | {2} failed | 9 skipped\n"
           "[doctest] assertions: 99 | 98 passed | 1 failed |\n")


def entry(result, stdout=""):
    return {"name": "t", "result": result, "stdout": stdout, "stderr": ""}


class Count(unittest.TestCase):
    def test_cases_of_a_doctest_program_count_one_by_one(self):
        self.assertEqual(summary.count(entry("OK", DOCTEST.format(5, 5, 0))), (5, 0, []))

    def test_failed_cases_count(self):
        self.assertEqual(summary.count(entry("FAIL", DOCTEST.format(5, 3, 2))), (3, 2, []))

    def test_a_program_that_dies_after_its_cases_passed_still_fails(self):
        self.assertEqual(summary.count(entry("FAIL", DOCTEST.format(5, 5, 0)))[1], 1)

    def test_a_program_that_dies_without_a_word_fails_once(self):
        self.assertEqual(summary.count(entry("ERROR")), (0, 1, []))

    def test_a_time_out_fails(self):
        self.assertEqual(summary.count(entry("TIMEOUT", "half a line")), (0, 1, []))

    def test_a_script_counts_as_one(self):
        self.assertEqual(summary.count(entry("OK", "fine\n")), (1, 0, []))

    def test_skips_are_named_and_never_count_as_passed(self):
        passed, failed, skipped = summary.count(entry("SKIP", "SKIPPED: amx: no amx\n"))
        self.assertEqual((passed, failed, skipped), (0, 0, ["SKIPPED: amx: no amx"]))
        self.assertEqual(len(summary.count(entry("SKIP"))[2]), 1)

    def test_coloured_output_is_read_too(self):
        self.assertEqual(summary.count(entry("OK", "\x1b[0m" + DOCTEST.format(2, 2, 0)))[0], 2)

    def test_cases_of_pytest_count_one_by_one(self):
        self.assertEqual(summary.count(entry("OK", "....\n4 passed in 0.10s\n")), (4, 0, []))
        self.assertEqual(summary.count(entry("FAIL", "== 2 failed, 3 passed, 1 error in 0.10s ==\n"))[:2], (3, 3))

    def test_skips_of_pytest_are_named(self):
        output = "SKIPPED [1] ../a/tests/test_x.py:61: no C compiler\n3 passed, 1 skipped in 0.1s\n"
        self.assertEqual(summary.count(entry("OK", output)),
                         (3, 0, ["SKIPPED: test_x.py, line 61: no C compiler"]))


if __name__ == "__main__":
    unittest.main()
