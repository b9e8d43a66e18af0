"""`huskies top`: the board on a whole terminal, with Textual, which nothing else imports."""
