"""The version of this package, as servers are told it, too."""

VERSION = "0.1.0"
