"""What ptxas made: instruction counts from a cubin, resources from its report. No disassembler needed.

From sm_75 on an instruction is 128 bits; the opcode is the low 12. The numbers are observed, not documented:
check_machine_code.py pins each with a probe before it believes any.
"""
import re
import struct

OPCODES = {0x237: 'IMMA', 0x23d: 'BMMA', 0x944: 'CALL', 0x387: 'STL', 0x983: 'LDL', 0x83b: 'LDSM', 0xfae: 'LDGSTS', 0xb1d: 'BAR'}


def sections(elf):
    """(name, bytes) of each section of a little-endian ELF64 file."""
    if elf[:6] != b'\x7fELF\x02\x01':
        raise ValueError('not a 64-bit little-endian ELF file')
    table, = struct.unpack_from('<Q', elf, 0x28)
    entry, count, names = struct.unpack_from('<HHH', elf, 0x3a)
    rows = [struct.unpack_from('<IIQQQQ', elf, table + i * entry) for i in range(count)]
    strings = rows[names][4]
    for name, kind, _, _, offset, size in rows:
        text = elf[strings + name:elf.index(b'\0', strings + name)].decode()
        yield text, b'' if kind == 8 else elf[offset:offset + size]


def instructions(elf):
    """{kernel: {mnemonic: count}}; IMMA with 4-bit operands counts as IMMA4, with 8-bit ones as IMMA8. 'all': all."""
    counts = {}
    for name, code in sections(elf):
        if not name.startswith('.text.'):
            continue
        seen = counts.setdefault(name[len('.text.'):], {'all': len(code) // 16})
        for low, high in struct.iter_unpack('<QQ', code):
            mnemonic = OPCODES.get(low & 0xfff)
            if mnemonic == 'IMMA':
                a4, b4 = high >> 19 & 1, high >> 20 & 1
                mnemonic = {(0, 0): 'IMMA8', (1, 1): 'IMMA4'}.get((a4, b4), 'IMMA_MIXED')
            if mnemonic:
                seen[mnemonic] = seen.get(mnemonic, 0) + 1
    return counts


def resources(report):
    """{kernel: {registers, stack, spills, shared}} from what ptxas -v says."""
    found, kernel = {}, None
    for line in report.splitlines():
        if m := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = found.setdefault(m[1], {'registers': 0, 'stack': 0, 'spills': 0, 'shared': 0})
        elif m := re.search(r'(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads', line):
            if kernel is not None:
                kernel['stack'] = max(kernel['stack'], int(m[1]))
                kernel['spills'] += int(m[2]) + int(m[3])
        elif m := re.search(r'Used (\d+) registers', line):
            kernel['registers'] = int(m[1])
            if s := re.search(r'(\d+) bytes smem', line):
                kernel['shared'] = int(s[1])
    return found
