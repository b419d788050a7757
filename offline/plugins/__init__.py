"""Stand-ins for Pulumi plugins that no package registry offers, under the official names and versions.

`docker_adapter` serves the real Terraform Docker provider; `command` and `tailscale` are small providers of our own.
They are copied into Pulumi's plugin cache (`install`), so nothing here may import from outside this folder at run time
but the standard library, grpc and protobuf.
"""
