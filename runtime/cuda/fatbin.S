/* One fatbin as read-only data: FATBIN names the symbol, FATBIN_FILE the file. */
    .section .rodata
    .balign 64
    .globl FATBIN
    .hidden FATBIN
    .type FATBIN, @object
FATBIN:
    .incbin FATBIN_FILE
    .size FATBIN, . - FATBIN
    .section .note.GNU-stack, "", @progbits
