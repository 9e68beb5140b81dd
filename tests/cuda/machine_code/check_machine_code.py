#!/usr/bin/env python3
"""Machine code of the CUDA kernels against the committed budget.

  check_machine_code.py --ptxas PTXAS --arch 80 --budget budget.txt PTX... [--update]

Assembles each PTX file for sm_ARCH. Every kernel must have a row of the budget and stay within it: registers, static
shared memory, calls (the slow paths of division and square root), all instructions (with those of variants that a launch
does not take), bytes spilt (0 but for what the table confesses);
no array in local memory; exactly as many 4-bit and 8-bit products as the row says. From sm_90 on a 4-bit product is a call of a slow routine that ptxas
puts in silently: none may be left.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import cubin

HEAD = '.version 9.0\n.target sm_{0}\n.address_size 64\n.visible .entry probe(.param .u64 p)\n{{\n.reg .b32 %r<16>;\n.reg .b64 %d<4>;\n{1}' \
       'ld.param.u64 %d1, [p];\ncvta.to.global.u64 %d1, %d1;\nld.global.v4.u32 {{%r1,%r2,%r3,%r4}}, [%d1];\nld.global.v2.u32 {{%r5,%r6}}, [%d1+16];\n{2}\nst.global.v2.u32 [%d1], {{%r1,%r2}};\nret;\n}}\n'
MMA4 = 'mma.sync.aligned.m8n8k32.row.col.s32.u4.s4.s32 {%r1,%r2}, {%r3}, {%r4}, {%r1,%r2};'
MMA8 = 'mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%r1,%r2}, {%r3}, {%r4}, {%r1,%r2};'
LOCAL = 'mov.u64 %d2, mine;\nand.b32 %r7, %r1, 252;\ncvt.u64.u32 %d3, %r7;\nadd.u64 %d2, %d2, %d3;\nst.local.u32 [%d2], %r2;\nst.local.u32 [mine+64], %r3;\nld.local.u32 %r1, [%d2];'
# Instruction text, what its machine code must hold by architecture: the opcode table on trial.
PROBES = [
    (MMA4, '', lambda arch, n: n.get('IMMA4', 0) == 1 if arch < 90 else n.get('CALL', 0) >= 1 and 'IMMA4' not in n),
    (MMA8, '', lambda arch, n: n.get('IMMA8', 0) == 1 and 'CALL' not in n),
    (LOCAL, '.local .align 4 .b8 mine[256];\n', lambda arch, n: n.get('STL', 0) >= 1 and n.get('LDL', 0) >= 1),
    ('bar.sync 0;', '', lambda arch, n: n.get('BAR', 0) == 1),
]


def assemble(ptxas, arch, ptx, out):
    """The report of ptxas -v; the cubin is in out."""
    run = subprocess.run([ptxas, f'-arch=sm_{arch}', '-v', ptx, '-o', out], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f'{ptx}: ptxas: {run.stderr.strip()}')
    return run.stderr + run.stdout


def check_probes(ptxas, arch, folder):
    """The opcode numbers still mean what OPCODES says."""
    for i, (text, variables, holds) in enumerate(PROBES):
        ptx, out = f'{folder}/probe.ptx', f'{folder}/probe.cubin'
        with open(ptx, 'w', encoding='ascii') as f:
            f.write(HEAD.format(arch, variables, text))
        assemble(ptxas, arch, ptx, out)
        counts = {}
        for kernel in cubin.instructions(open(out, 'rb').read()).values():
            for mnemonic, n in kernel.items():
                counts[mnemonic] = counts.get(mnemonic, 0) + n
        if not holds(arch, counts):
            yield f'probe {i} for sm_{arch} holds {counts}: the opcode table is wrong for this ptxas'


COLUMNS = ['registers', 'shared', 'calls', 'spills', 'imma4', 'imma8', 'all']


def measure(ptxas, arch, files, folder):
    """{kernel: row}"""
    rows = {}
    for ptx in files:
        out = f'{folder}/{os.path.basename(ptx)}.sm_{arch}.cubin'
        resources = cubin.resources(assemble(ptxas, arch, ptx, out))
        for kernel, counts in cubin.instructions(open(out, 'rb').read()).items():
            row = dict(resources[kernel])
            row.update(all=counts['all'], calls=counts.get('CALL', 0), imma4=counts.get('IMMA4', 0), imma8=counts.get('IMMA8', 0),
                       mixed=counts.get('IMMA_MIXED', 0), local=counts.get('STL', 0) + counts.get('LDL', 0))
            rows[kernel] = row
    return rows


def faults(arch, rows, budget):
    """What is wrong with `rows`, against {(kernel, arch): row}."""
    for kernel, row in sorted(rows.items()):
        name, limit = f'{kernel} for sm_{arch}', budget.get((kernel, arch))
        if row['mixed']:
            yield f'{name}: products of 4-bit by 8-bit operands, which do not exist'
        if not row['spills'] and (row['stack'] or row['local']):
            yield f'{name}: {row["stack"]} bytes of stack, {row["local"]} accesses to local memory, without a spill'
        if arch >= 90 and row['imma4']:
            yield f'{name}: 4-bit products, which this architecture has not'
        if limit is None:
            yield f'{name}: no budget'
            continue
        for what in ('registers', 'shared', 'calls', 'spills', 'all'):
            if row[what] > limit[what]:
                yield f'{name}: {what} {row[what]}, {limit[what]} allowed'
        for what in ('imma4', 'imma8'):
            if row[what] != limit[what]:
                yield f'{name}: {what} {row[what]}, not {limit[what]}'
    for kernel, of_arch in budget:
        if of_arch == arch and kernel not in rows:
            yield f'{kernel} for sm_{arch}: in the budget, but there is no such kernel'


def read_budget(path):
    budget = {}
    for line in open(path, encoding='ascii'):
        words = line.split('#')[0].split()
        if words:
            budget[words[0], int(words[1])] = dict(zip(COLUMNS, map(int, words[2:])))
    return budget


def write_budget(path, budget):
    with open(path, 'w', encoding='ascii') as f:
        f.write('# Machine code of the CUDA kernels, ptxas 13.0: limits of registers, static shared bytes, calls, spilt bytes and all instructions; exact\n'
                '# counts of 4-bit and 8-bit products. check_machine_code.py --update writes it: read the difference before you commit it.\n'
                f'# {"kernel":22} {"sm":>4} ' + ' '.join(f'{c:>9}' for c in COLUMNS) + '\n')
        for (kernel, arch), row in sorted(budget.items()):
            f.write(f'{kernel:24} {arch:4} ' + ' '.join(f'{row[c]:9}' for c in COLUMNS) + '\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--ptxas', required=True)
    parser.add_argument('--arch', type=int, required=True)
    parser.add_argument('--budget', required=True)
    parser.add_argument('--update', action='store_true')
    parser.add_argument('ptx', nargs='+')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = list(check_probes(args.ptxas, args.arch, folder))
        rows = measure(args.ptxas, args.arch, args.ptx, folder)
    budget = read_budget(args.budget) if os.path.exists(args.budget) else {}
    if args.update:
        budget = {key: row for key, row in budget.items() if key[1] != args.arch}
        budget.update({(kernel, args.arch): row for kernel, row in rows.items()})
        write_budget(args.budget, budget)
    wrong += faults(args.arch, rows, budget)
    for line in wrong:
        print(line)
    print(f'sm_{args.arch}: {len(rows)} kernels, {len(wrong)} faults')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
