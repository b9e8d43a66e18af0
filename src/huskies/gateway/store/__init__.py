"""The log and all that reads its file: appending, blocks, sequences, history, what is damaged or dropped."""
