package e2e;

import java.math.BigInteger;
import java.net.URL;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.cert.CertStore;
import java.security.cert.Certificate;
import java.security.cert.X509CRL;
import java.security.cert.X509Certificate;
import java.util.Collection;
import java.util.Date;
import javax.security.auth.x500.X500Principal;
import org.bouncycastle.asn1.DERPrintableString;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.cert.jcajce.JcaX509v3CertificateBuilder;
import org.bouncycastle.operator.ContentSigner;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.pkcs.PKCS10CertificationRequest;
import org.bouncycastle.pkcs.jcajce.JcaPKCS10CertificationRequestBuilder;
import org.jscep.client.Client;
import org.jscep.client.EnrollmentResponse;
import org.jscep.client.verification.OptimisticCertificateVerifier;
import org.jscep.transaction.OperationFailureException;

/**
 * Enrols, renews, polls, fetches a certificate and a revocation list with jscep.
 *
 * <pre>Enrol STATIC-URL APPROVAL-URL CHALLENGE</pre>
 *
 * It prints "parked" when the approval endpoint has parked its request, so that
 * whoever started it can approve. Exit code 0 means that all went as expected.
 */
public final class Enrol {
    private static final X500Principal NAME = new X500Principal("CN=jscep1,O=Probe");

    private final String challenge;

    private Enrol(String challenge) {
        this.challenge = challenge;
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 3) {
            System.err.println("usage: Enrol STATIC-URL APPROVAL-URL CHALLENGE");
            System.exit(2);
        }
        Enrol run = new Enrol(args[2]);
        run.enrolAndFetch(client(args[0]));
        run.refused(client(args[0]));
        run.parked(client(args[1]));
        System.out.println("jscep: all as expected");
        System.exit(0); // whatever threads a library left
    }

    private static Client client(String url) throws Exception {
        return new Client(new URL(url), new OptimisticCertificateVerifier());
    }

    private void enrolAndFetch(Client client) throws Exception {
        want(client.getCaCapabilities().isPostSupported(), "POST is offered");
        want(client.getCaCapabilities().isRenewalSupported(), "Renewal is offered");
        KeyPair key = newKey();
        X509Certificate first = issued(client.enrol(selfSigned(key), key.getPrivate(), request(key, challenge)), key);
        System.out.println("jscep: enrolled");

        KeyPair next = newKey();
        X509Certificate renewed = issued(client.enrol(first, key.getPrivate(), request(next, challenge)), next);
        want(!renewed.getSerialNumber().equals(first.getSerialNumber()), "the renewal is another certificate");
        System.out.println("jscep: renewed");

        CertStore found = client.getCertificate(renewed, next.getPrivate(), first.getSerialNumber());
        want(found.getCertificates(null).contains(first), "GetCert returns the first certificate");
        try {
            client.getCertificate(renewed, next.getPrivate(), new BigInteger("123456789"));
            want(false, "GetCert of an unknown serial number fails");
        } catch (OperationFailureException expected) {
            System.out.println("jscep: GetCert");
        }

        X509CRL crl = client.getRevocationList(renewed, next.getPrivate(), first.getIssuerX500Principal(), first.getSerialNumber());
        want(crl.getIssuerX500Principal().equals(first.getIssuerX500Principal()), "the list is of the issuer");
        want(crl.getRevokedCertificate(first.getSerialNumber()) == null, "nothing is revoked");
        System.out.println("jscep: GetCRL");
    }

    private void refused(Client client) throws Exception {
        KeyPair key = newKey();
        EnrollmentResponse r = client.enrol(selfSigned(key), key.getPrivate(), request(key, "not the challenge at all"));
        want(r.isFailure(), "a wrong challenge fails");
        System.out.println("jscep: refused " + r.getFailInfo());
    }

    private void parked(Client client) throws Exception {
        KeyPair key = newKey();
        X509Certificate self = selfSigned(key);
        EnrollmentResponse r = client.enrol(self, key.getPrivate(), request(key, challenge));
        want(r.isPending(), "a request for a person is pending");
        System.out.println("parked");
        System.out.flush();
        for (int i = 0; i < 60 && r.isPending(); i++) {
            Thread.sleep(500);
            r = client.poll(self, key.getPrivate(), NAME, r.getTransactionId());
        }
        issued(r, key);
        System.out.println("jscep: polled");
    }

    private static X509Certificate issued(EnrollmentResponse r, KeyPair key) throws Exception {
        want(r.isSuccess(), "the request succeeds" + (r.isFailure() ? ", not " + r.getFailInfo() : ""));
        Collection<? extends Certificate> all = r.getCertStore().getCertificates(null);
        want(all.size() == 1, "the reply has the issued certificate alone");
        X509Certificate cert = (X509Certificate) all.iterator().next();
        want(cert.getPublicKey().equals(key.getPublic()), "the certificate is for the key of the request");
        return cert;
    }

    private static void want(boolean holds, String what) {
        if (!holds) {
            System.err.println("jscep: not so: " + what);
            System.exit(1);
        }
    }

    private static KeyPair newKey() throws Exception {
        KeyPairGenerator g = KeyPairGenerator.getInstance("RSA");
        g.initialize(2048);
        return g.generateKeyPair();
    }

    private static ContentSigner signer(KeyPair key) throws Exception {
        return new JcaContentSignerBuilder("SHA256withRSA").build(key.getPrivate());
    }

    private static X509Certificate selfSigned(KeyPair key) throws Exception {
        long now = System.currentTimeMillis();
        return new JcaX509CertificateConverter().getCertificate(new JcaX509v3CertificateBuilder(
                NAME, BigInteger.ONE, new Date(now - 60_000), new Date(now + 3_600_000), NAME, key.getPublic()).build(signer(key)));
    }

    private static PKCS10CertificationRequest request(KeyPair key, String challenge) throws Exception {
        JcaPKCS10CertificationRequestBuilder b = new JcaPKCS10CertificationRequestBuilder(NAME, key.getPublic());
        b.addAttribute(PKCSObjectIdentifiers.pkcs_9_at_challengePassword, new DERPrintableString(challenge));
        return b.build(signer(key));
    }
}
