/* The built-in model between two symbols, 64-byte aligned; nothing between them when the build has none. */
    .section .rodata
    .balign 64
    .globl sluice_builtin_model
    .globl sluice_builtin_model_end
sluice_builtin_model:
#ifdef MODEL
    .incbin MODEL
#endif
sluice_builtin_model_end:
    .byte 0
    .section .note.GNU-stack,"",%progbits
