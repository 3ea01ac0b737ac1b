"""Stand-ins share this package with what is installed of it."""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)
