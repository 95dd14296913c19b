"""Drives the CA with impacket's own RPC, DCOM and NDR code: what that reads and
writes cannot share a mistake with the Go client's library.

usage: judge.py PORT HOST CA DOMAIN USER CSR OUT  (password on standard input;
an empty one means Kerberos with the ticket of KRB5CCNAME)
Writes OUT.cer and OUT.crl; prints one line a step.
"""
import datetime
import socket
import sys

from impacket.dcerpc.v5 import epm, transport
from impacket.dcerpc.v5.dcomrt import DCOMANSWER, DCOMCALL, DCOMConnection
from impacket.dcerpc.v5.dtypes import DWORD, FILETIME, LONG, LPWSTR, ULONG
from impacket.dcerpc.v5.ndr import NDRCALL, NDRPOINTER, NDRSTRUCT, NDRUniConformantArray
from impacket.dcerpc.v5.rpcrt import (DCERPCException, RPC_C_AUTHN_GSS_NEGOTIATE, RPC_C_AUTHN_LEVEL_PKT_PRIVACY)
from impacket.uuid import string_to_bin, uuidtup_to_bin

port, host, ca, domain, user, csr_file, out = sys.argv[1:8]
password = sys.stdin.read().strip()
kerberos = password == ""
ca += "\0"
machine = host.partition(".")[0].upper()

# The CA's name leads to loopback, whatever the resolver says.
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda name, *rest, **more: resolve("127.0.0.1" if name in (host, machine) else name, *rest, **more)

# impacket has no option for the endpoint mapper's port.
factory = transport.DCERPCTransportFactory
transport.DCERPCTransportFactory = lambda binding: factory(binding if "[" in binding else "%s[%s]" % (binding, port))


class DCERPCSessionError(DCERPCException):
    pass


class BYTES(NDRUniConformantArray):
    item = "c"


class PBYTES(NDRPOINTER):
    referent = (("Data", BYTES),)


class BLOB(NDRSTRUCT):
    structure = (("cb", ULONG), ("pb", PBYTES))


def fill(blob, data):
    blob["cb"] = len(data)
    blob["pb"] = [data[i:i + 1] for i in range(len(data))]


def octets(blob):
    return b"".join(blob["pb"]) if blob["cb"] else b""


class CertServerRequest(NDRCALL):
    opnum = 0
    structure = (("dwFlags", DWORD), ("pwszAuthority", LPWSTR), ("pdwRequestId", DWORD), ("pctbAttribs", BLOB), ("pctbRequest", BLOB))


class CertServerRequestResponse(NDRCALL):
    structure = (("pdwRequestId", DWORD), ("pdwDisposition", ULONG), ("pctbCert", BLOB), ("pctbEncodedCert", BLOB),
                 ("pctbDispositionMessage", BLOB), ("ErrorCode", ULONG))


class RevokeCertificate(DCOMCALL):
    opnum = 10
    structure = (("pwszAuthority", LPWSTR), ("pwszSerialNumber", LPWSTR), ("Reason", DWORD), ("FileTime", FILETIME))


class RevokeCertificateResponse(DCOMANSWER):
    structure = (("ErrorCode", ULONG),)


class PublishCRLs(DCOMCALL):
    opnum = 31
    structure = (("pwszAuthority", LPWSTR), ("FileTime", FILETIME), ("Flags", DWORD))


class PublishCRLsResponse(DCOMANSWER):
    structure = (("ErrorCode", ULONG),)


class GetCRL(DCOMCALL):
    opnum = 9
    structure = (("pwszAuthority", LPWSTR),)


class GetCRLResponse(DCOMANSWER):
    structure = (("pctbCRL", BLOB), ("ErrorCode", ULONG))


def stamp(field, when):
    ticks = 0
    if when is not None:
        ticks = int((when - datetime.datetime(1601, 1, 1)).total_seconds() * 10000000)
    field["dwLowDateTime"], field["dwHighDateTime"] = ticks & 0xffffffff, ticks >> 32


def enrol():
    interface = uuidtup_to_bin(("91ae6020-9e3c-11cf-8d7c-00aa00c091be", "0.0"))
    mapper = transport.DCERPCTransportFactory("ncacn_ip_tcp:" + host).get_dce_rpc()
    mapper.connect()
    mapper.bind(epm.MSRPC_UUID_PORTMAP)
    binding = epm.hept_map(host, interface, protocol="ncacn_ip_tcp", dce=mapper)
    mapper.disconnect()
    t = transport.DCERPCTransportFactory(binding)
    t.setRemoteHost("127.0.0.1")
    t.setRemoteName(host)
    t.set_credentials(user, password, domain)
    t.set_kerberos(kerberos)
    dce = t.get_dce_rpc()
    dce.set_auth_level(RPC_C_AUTHN_LEVEL_PKT_PRIVACY)
    if kerberos:
        dce.set_auth_type(RPC_C_AUTHN_GSS_NEGOTIATE)
    dce.connect()
    dce.bind(interface)
    call = CertServerRequest()
    call["dwFlags"], call["pwszAuthority"], call["pdwRequestId"] = 0x100, ca, 0
    fill(call["pctbAttribs"], "CertificateTemplate:IntuneDevice\0".encode("utf-16le"))
    fill(call["pctbRequest"], open(csr_file, "rb").read())
    reply = dce.request(call)
    print("enrolled: disposition", reply["pdwDisposition"], "request", reply["pdwRequestId"])
    cert = octets(reply["pctbEncodedCert"])
    open(out + ".cer", "wb").write(cert)
    dce.disconnect()
    return cert


def administer(serial):
    dcom = DCOMConnection(host, user, password, domain, authLevel=RPC_C_AUTHN_LEVEL_PKT_PRIVACY, oxidResolver=True, doKerberos=kerberos)
    try:
        interface = uuidtup_to_bin(("7fe0d935-dda6-443f-85d0-1cfb58fe41dd", "0.0"))
        admin = dcom.CoCreateInstanceEx(string_to_bin("d99e6e73-fc88-11d0-b498-00a0c90312f3"), interface)

        def request(call):
            return admin.request(call, interface, uuid=admin.get_iPid())

        call = RevokeCertificate()
        call["pwszAuthority"], call["pwszSerialNumber"], call["Reason"] = ca, serial + "\0", 1
        stamp(call["FileTime"], datetime.datetime.utcnow() - datetime.timedelta(seconds=5))
        print("revoked:", hex(request(call)["ErrorCode"]))
        call["pwszSerialNumber"] = "12ab\0"
        try:
            request(call)
            print("unknown serial: accepted")
        except DCERPCException as e:
            print("unknown serial: refused", hex(e.get_error_code() or 0))
        call = PublishCRLs()
        call["pwszAuthority"], call["Flags"] = ca, 1
        stamp(call["FileTime"], None)
        print("published:", hex(request(call)["ErrorCode"]))
        call = GetCRL()
        call["pwszAuthority"] = ca
        open(out + ".crl", "wb").write(octets(request(call)["pctbCRL"]))
        print("fetched the list")
    finally:
        dcom.disconnect()


def serial_of(cert):
    from cryptography import x509
    text = "%x" % x509.load_der_x509_certificate(cert).serial_number
    return "0" * (len(text) % 2) + text


administer(serial_of(enrol()))
