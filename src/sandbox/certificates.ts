/** A certificate authority for one start of the sandbox: Node can read certificates but not write them. */
import { generateKeyPair, randomBytes } from "node:crypto";
import { promisify } from "node:util";
import forge from "node-forge";

export interface Certificates {
  /** PEM of the authority that clients have to trust. Its key is forgotten before anybody sees this. */
  readonly caCertificate: string;
  /** PEM of the server's certificate, for 127.0.0.1, ::1, localhost and the names asked for, and of its key. */
  readonly certificate: string;
  readonly key: string;
}

const DAY_MS = 24 * 60 * 60 * 1000;
/** Long enough for a sandbox that is left running; short enough for clients that refuse more than 825 days. */
const LIFE_DAYS = 365;

const CA_NAME = [{ name: "commonName", value: "Gantry sandbox, this start only" }];
const SERVER_NAME = [{ name: "commonName", value: "localhost" }];

/** `altNames` types of RFC 5280 4.2.1.6. */
const DNS_NAME = 2;
const IP_ADDRESS = 7;

/** A server certificate that is not as it should be, for tests of clients. */
export interface FaultyCertificate {
  /** The only host name that it is for. */
  readonly host?: string;
  /** When it ended. */
  readonly until?: Date;
}

export interface CertificateOptions extends FaultyCertificate {
  /** Names beside the loopback's, for clients that have an archive's own host built in. */
  readonly alsoFor?: readonly string[];
}

/** A new authority and a server certificate by it; about a third of a second of work. */
export async function issueCertificates(options: CertificateOptions = {}): Promise<Certificates> {
  const { host, until, alsoFor = [] } = options;
  const [ca, server] = await Promise.all([newKeys(), newKeys()]);
  const caCertificate = sign({
    subject: CA_NAME,
    publicKey: ca.publicKey,
    signer: ca,
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  const certificate = sign({
    subject: SERVER_NAME,
    publicKey: server.publicKey,
    signer: ca,
    extensions: [
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, keyEncipherment: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      {
        name: "subjectAltName",
        altNames:
          host !== undefined
            ? [{ type: DNS_NAME, value: host }]
            : [
                ...["localhost", ...alsoFor].map((value) => ({ type: DNS_NAME, value })),
                { type: IP_ADDRESS, ip: "127.0.0.1" },
                { type: IP_ADDRESS, ip: "::1" },
              ],
      },
    ],
    ...(until ? { until } : {}),
  });
  return { caCertificate, certificate, key: forge.pki.privateKeyToPem(server.privateKey) };
}

async function newKeys(): Promise<forge.pki.rsa.KeyPair> {
  const { publicKey, privateKey } = await promisify(generateKeyPair)("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs1", format: "pem" },
  });
  return {
    publicKey: forge.pki.publicKeyFromPem(publicKey),
    privateKey: forge.pki.privateKeyFromPem(privateKey),
  };
}

interface Wanted {
  readonly subject: forge.pki.CertificateField[];
  readonly publicKey: forge.pki.rsa.PublicKey;
  readonly signer: forge.pki.rsa.KeyPair;
  readonly extensions: readonly object[];
  readonly until?: Date;
}

function sign({ subject, publicKey, signer, extensions, until }: Wanted): string {
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = publicKey;
  // A serial number is positive: the first byte keeps the sign bit clear.
  certificate.serialNumber = `01${randomBytes(15).toString("hex")}`;
  certificate.validity.notBefore = new Date((until?.getTime() ?? Date.now()) - DAY_MS);
  certificate.validity.notAfter = until ?? new Date(Date.now() + LIFE_DAYS * DAY_MS);
  certificate.setSubject(subject);
  certificate.setIssuer(CA_NAME);
  // Python 3.13 and others that hold to RFC 5280 want both identifiers.
  const authority = forge.pki.getPublicKeyFingerprint(signer.publicKey, { type: "RSAPublicKey" });
  certificate.setExtensions([
    ...extensions,
    { name: "subjectKeyIdentifier" },
    { name: "authorityKeyIdentifier", keyIdentifier: authority.getBytes() },
  ]);
  certificate.sign(signer.privateKey, forge.md.sha256.create());
  return forge.pki.certificateToPem(certificate);
}
