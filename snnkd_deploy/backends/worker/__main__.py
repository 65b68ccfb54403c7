"""`python -m snnkd_deploy.backends.worker`: serve the backends of this environment over stdin and stdout."""

import sys

if __name__ == "__main__":
    if sys.stdin.isatty():
        sys.exit('this is spoken to by `snnkd simulate --worker "..."`, not by people')
    from snnkd_deploy.backends.worker.server import main

    main()
