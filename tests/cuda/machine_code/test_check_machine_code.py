#!/usr/bin/env python3
"""check_machine_code's judgement and cubin's reading, on planted faults. Needs no CUDA."""
import struct
import unittest

import check_machine_code as check
import cubin

GOOD = {'registers': 96, 'stack': 0, 'spills': 0, 'shared': 0, 'calls': 0, 'imma4': 32, 'imma8': 0, 'mixed': 0, 'local': 0, 'all': 512}


def elf_with(code):
    """A file with one section of code, .text.k, and the names."""
    names = b'\0.text.k\0.names\0'
    body = b'\x7fELF\x02\x01' + bytes(0x22) + struct.pack('<Q', 0x40) + bytes(10) + struct.pack('<HHH', 64, 2, 1)
    body = body.ljust(0x40, b'\0')
    at = 0x40 + 2 * 64
    rows = [struct.pack('<IIQQQQ', 1, 1, 0, 0, at, len(code)), struct.pack('<IIQQQQ', 9, 3, 0, 0, at + len(code), len(names))]
    return body + b''.join(r.ljust(64, b'\0') for r in rows) + code + names


class CheckMachineCode(unittest.TestCase):
    def wrong(self, arch=80, **changes):
        row = dict(GOOD, **changes)
        return list(check.faults(arch, {'k': row}, {('k', arch): GOOD}))

    def test_a_kernel_within_its_budget_passes(self):
        self.assertEqual(self.wrong(), [])
        self.assertEqual(self.wrong(registers=90), [])

    def test_each_excess_is_named(self):
        for what in ('registers', 'stack', 'spills', 'shared', 'calls', 'mixed', 'local', 'all'):
            self.assertEqual(len(self.wrong(**{what: GOOD[what] + 1})), 1, what)

    def test_products_are_counted_exactly(self):
        self.assertEqual(len(self.wrong(imma4=31)), 1)
        self.assertEqual(len(self.wrong(imma8=1)), 1)

    def test_four_bit_products_do_not_exist_from_sm_90_on(self):
        self.assertEqual(len(self.wrong(arch=90)), 1)

    def test_a_kernel_needs_a_row_and_a_row_a_kernel(self):
        self.assertEqual(len(list(check.faults(80, {'k': GOOD}, {}))), 1)
        self.assertEqual(len(list(check.faults(80, {}, {('k', 80): GOOD}))), 1)

    def test_instructions_are_read_from_the_file(self):
        words = [(0x237, 1 << 19 | 1 << 20), (0x237, 0), (0x237, 1 << 19), (0x944, 0), (0x1234000 | 0x387, 0), (0x812, 0)]
        code = b''.join(struct.pack('<QQ', *w) for w in words)
        self.assertEqual(cubin.instructions(elf_with(code)), {'k': {'all': 6, 'IMMA4': 1, 'IMMA8': 1, 'IMMA_MIXED': 1, 'CALL': 1, 'STL': 1}})

    def test_what_is_no_cubin_is_refused(self):
        with self.assertRaises(ValueError):
            cubin.instructions(b'\x7fELF\x01\x01' + bytes(64))

    def test_the_report_of_ptxas_is_read(self):
        report = ("ptxas info    : Compiling entry function 'k' for 'sm_80'\nptxas info    : Function properties for k\n"
                  '    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n'
                  'ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem, 448 bytes cmem[0]\n')
        self.assertEqual(cubin.resources(report), {'k': {'registers': 40, 'stack': 8, 'spills': 16, 'shared': 1024}})


if __name__ == '__main__':
    unittest.main()
