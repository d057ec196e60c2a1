"""How twistd finds `imgservice`; the module is imported only when it is asked for."""

from twisted.application.service import ServiceMaker

imgservice = ServiceMaker(
    "imgservice", "imgservice.tap", "A server for the OpenStack Images API", "imgservice"
)
