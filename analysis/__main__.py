"""`python -m analysis` lists all commands, as `clearclip` does."""

from clearclip.__main__ import main

if __name__ == "__main__":
    main()
