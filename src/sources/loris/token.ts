/**
 * The token of a LORIS: one login for all requests that wait for it. It lasts 24 hours and can't be prolonged
 * (LORIS `login` endpoint), so a refused one is replaced by a new login in mid-run.
 */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { Redactor } from "../../lib/redact.ts";
import { type Http, statusError } from "../../transports/http.ts";
import type { BaseUrl } from "./base-url.ts";

export interface LorisCredentials {
  readonly user?: string;
  readonly password?: string;
  /** A ready token; it can't be renewed. */
  readonly token?: string;
}

export interface LorisTokensOptions {
  readonly http: Http;
  /** Name of the configured archive, for messages. */
  readonly archive: string;
  readonly base: BaseUrl;
  readonly credentials: LorisCredentials;
  readonly redactor: Redactor;
}

const TEXT_LIMIT_BYTES = 1024 * 1024;
const FIRST_BYTE_MS = 60_000;

export class LorisTokens {
  readonly #options: LorisTokensOptions;
  #token: string | null = null;
  #login: Promise<string> | null = null;
  /** A refusal is final: wrong logins lock an account out. */
  #refusal: RunError | null = null;

  constructor(options: LorisTokensOptions) {
    this.#options = options;
  }

  /** Whether a refused token can be replaced by a new one. */
  get canRenew(): boolean {
    return this.#options.credentials.token === undefined;
  }

  /** The token to send. Throws `access-login`. */
  async token(context: Context): Promise<string> {
    const { credentials } = this.#options;
    if (credentials.token !== undefined) return credentials.token;
    if (this.#token !== null) return this.#token;
    if (this.#refusal !== null) throw this.#refusal;
    this.#login ??= this.#ask(context).finally(() => {
      this.#login = null;
    });
    return this.#login;
  }

  /** The archive did not take this token: the next request logs in again. */
  refused(token: string): void {
    if (this.#token === token) this.#token = null;
  }

  /** What to say when the archive still does not take what it was sent. */
  rejection(): RunError {
    const { archive } = this.#options;
    return this.canRenew
      ? this.#denied("does not accept the login that it has just given (HTTP 401)")
      : new RunError("access-login", `${archive} does not accept the token (HTTP 401)`, {
          at: { archive },
          hint: `get a new token, or use \`gantry login ${archive}\` with user and password`,
        });
  }

  async #ask(context: Context): Promise<string> {
    const { archive, http, base, credentials, redactor } = this.#options;
    const { user, password } = credentials;
    if (!user || !password) throw this.#unnamed(user);
    const response = await http.request(
      {
        method: "POST",
        url: new URL(`${await base.get(context)}/login`),
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ username: user, password }),
        firstByteTimeoutMs: FIRST_BYTE_MS,
      },
      context,
    );
    const at = { url: response.url, archive };
    const text = await response.text(TEXT_LIMIT_BYTES);
    const reply = parseObject(text);
    const said = typeof reply?.error === "string" ? reply.error : "";
    if (/unacceptable jwt key/iu.test(said)) {
      const what = `${archive} can give no tokens: its own key is too weak (HTTP ${response.status})`;
      throw new RunError("archive-error", what, {
        at,
        retry: "never",
        hint: "tell those who run the archive",
      });
    }
    const failure = statusError(response, context);
    if (failure) throw failure.with(at);
    if (response.status === 400 || response.status === 401) {
      this.#refusal = this.#denied(reasonOf(said, user));
      throw this.#refusal;
    }
    if (isPage(text)) {
      throw new RunError("archive-reply", `${archive}: a web page came in place of a login (${pageReason})`, {
        at,
      });
    }
    // Without the text: it may hold a token.
    if (response.status !== 200 || typeof reply?.token !== "string" || reply.token === "") {
      throw new RunError(
        "archive-reply",
        `${archive}: no login service of a LORIS answers there (HTTP ${response.status})`,
        { at, hint: "is the archive's URL that of a LORIS? A proxy or a web page may be in the way, too" },
      );
    }
    redactor.add(reply.token);
    this.#token = reply.token;
    return reply.token;
  }

  #unnamed(user: string | undefined): RunError {
    const { archive } = this.#options;
    const prefix = `GANTRY_${archive.toUpperCase().replaceAll("-", "_")}_`;
    const missing = user ? `${prefix}PASSWORD` : `${prefix}USER and ${prefix}PASSWORD`;
    return new RunError("access-login", `${archive} shows its data to registered users only`, {
      at: { archive },
      hint: `set ${missing}, or store a login with \`gantry login ${archive}\``,
    });
  }

  #denied(what: string): RunError {
    const { archive } = this.#options;
    return new RunError("access-login", `${archive} ${what}`, {
      at: { archive },
      hint: `\`gantry login ${archive}\` stores a login; the archive's web page says more of the account`,
    });
  }
}

/** The server's words (LORIS `login` endpoint) as one sentence of ours; a 401 may carry an empty one. */
function reasonOf(message: string, user: string): string {
  if (/suspended/iu.test(message))
    return "has locked logins from here for up to an hour after too many wrong ones: wait, then log in again";
  if (/not yet been activated/iu.test(message)) return `has not activated the account of ${user} yet`;
  if (/deactivated/iu.test(message))
    return `has deactivated the account of ${user}, as it does after a year without a login: ask the archive`;
  if (message === "")
    return `refused the login of ${user} without a reason: the password may have to be changed on its web page first`;
  return `refused the login of ${user}: wrong user name or password`;
}

/** What a page in place of data may mean: LORIS 28 sends one to accounts with a second factor, with status 200. */
export const pageReason =
  "an account with two-factor login can't be used here, or a proxy asks for something";

export const isPage = (text: string): boolean => text.trimStart().startsWith("<");

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? { ...value } : null;
  } catch {
    return null;
  }
}
