"""`python -m huskies` is `huskies`."""

from huskies.cli.main import main

if __name__ == "__main__":
    main()
