/**
 * Takes secrets out of text for logs, screens and error messages. Apply it to a message before it becomes part
 * of JSON, since the text between quotes may change its length and form.
 */

const MASK = "***";
/** A shorter secret is not looked for as such: it would blot out harmless words. Patterns still find it. */
const MIN_SECRET_CHARACTERS = 4;

export interface Redactor {
  /** From now on this text is a secret, also where it is encoded for URLs, forms, JSON or Basic authentication. */
  add(secret: string): void;
  /** The text with every secret it knows or recognises replaced by `***`. Doing it twice changes nothing. */
  redact(text: string): string;
}

export function createRedactor(): Redactor {
  const known = new Set<string>();
  let pattern: RegExp | undefined;
  return {
    add(secret) {
      if (secret.length < MIN_SECRET_CHARACTERS) return;
      for (const form of formsOf(secret)) known.add(form);
      // The longest first, so that a secret which contains another one is replaced as a whole.
      const forms = [...known].sort((a, b) => b.length - a.length).map(escapeRegExp);
      pattern = new RegExp(forms.join("|"), "g");
    },
    redact(text) {
      // Patterns first: a known secret inside a longer unknown one must not hide the shape of the whole.
      const masked = redactPatterns(text);
      return pattern === undefined ? masked : masked.replace(pattern, MASK);
    },
  };
}

function formsOf(secret: string): string[] {
  const wellFormed = secret.toWellFormed();
  const encoded = encodeURIComponent(wellFormed);
  return [
    secret,
    encoded,
    encoded.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase()),
    new URLSearchParams({ "": wellFormed }).toString().slice(1),
    JSON.stringify(secret).slice(1, -1),
    Buffer.from(secret).toString("base64"),
  ];
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
}

/** Fields whose value is a secret, by the end of their name: `access_token`, `X-Amz-Signature`, `DB_PASSWORD`. */
const NAME =
  "(?:passw(?:or)?d|passphrase|passcode|secret|secret[_-]?key|api[_-]?key|access[_-]?key|token|jwt|signature|credential|" +
  "(?<![a-z])(?:pwd|pass|sig))";

/** Each keeps what group 1 caught and masks the rest. None can backtrack over a long text. */
const PATTERNS: readonly RegExp[] = [
  // Digest credentials are a list with quotes: up to the end of the line.
  /(authorization["']?\s{0,3}[:=]\s{0,3}["']?)digest\s[^\r\n]+/gi,
  /(authorization\\?["']?\s{0,3}[:=]\s{0,3}\\?["']?)(?:[a-z0-9-]+ {1,3})?[^\s"',;\\]+/gi,
  /(\b(?:bearer|basic)\s{1,3})(?=[^\s"',;]*[\d._~+/=-]|[^\s"',;]{16})[^\s"',;\\]+/gi,
  /(\b(?:set-)?cookie\\?["']?\s{0,3}:\s{0,3}\\?["']?)[^\r\n"\\]+/gi,
  /(\bx-(?:api-key|auth-token|access-token)\s{0,3}:\s{0,3})[^\s"',;\\]+/gi,
  // The last @ before the path ends the userinfo, so that a password with an @ goes as a whole.
  /(\b[a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/?#"'<>\\]{1,500}(?=@)/gi,
  // What opens an Aspera package (Faspex 5 public links), and the code that is got for it.
  /([?&](?:context|state|code)=)[^\s&"'<>;,\\]+/gi,
  new RegExp(`(${NAME}\\s{0,3}=\\s{0,3}")[^"\\r\\n]+`, "gi"),
  new RegExp(`(${NAME}\\s{0,3}=\\s{0,3}')[^'\\r\\n]+`, "gi"),
  new RegExp(`(${NAME}\\s{0,3}=\\s{0,3})[^\\s&"'<>;,\\\\]+`, "gi"),
  new RegExp(`(${NAME}["']\\s{0,3}:\\s{0,3}")(?:\\\\.|[^"\\\\])+`, "gi"),
  new RegExp(`(${NAME}["']\\s{0,3}:\\s{0,3}')(?:\\\\.|[^'\\\\])+`, "gi"),
  new RegExp(`(${NAME}\\\\"\\s{0,3}:\\s{0,3}\\\\")[^"\\\\]+`, "gi"),
];

function redactPatterns(text: string): string {
  return PATTERNS.reduce((masked, pattern) => masked.replace(pattern, `$1${MASK}`), text);
}

/** The URL without userinfo and without the values of secret fields; all else stays byte for byte. */
export function redactUrl(url: string | URL): string {
  return redactPatterns(String(url));
}
