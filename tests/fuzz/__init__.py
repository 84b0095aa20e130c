"""Mutated messages through the compiled decoders: `make fuzz SECONDS=600`.

Every batch is a function of the seed, the format and its number, and lies right before or right behind a page that
nobody may read. What must hold of any result is checked of the whole batch; a sample is compared with the plain
decoder.
"""
