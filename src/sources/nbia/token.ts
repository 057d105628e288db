/**
 * The access token of an NBIA archive: one login for all requests that wait for it, renewed before it ends.
 *
 * Facts: CBIIT/NBIA-TCIA at 865725e, software/nbia-api restAPI/KeycloakGetToken.java and KeycloakLogout.java.
 */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { Redactor } from "../../lib/redact.ts";
import { type Http, type HttpResponse, statusError } from "../../transports/http.ts";

export interface NbiaCredentials {
  readonly user?: string;
  readonly password?: string;
  /** A ready access token; it can't be renewed. */
  readonly token?: string;
}

export interface TokenKeeperOptions {
  readonly http: Http;
  /** Name of the configured archive, for messages. */
  readonly archive: string;
  /** e.g. `https://nbia.cancerimagingarchive.net/nbia-api`, without a slash at the end */
  readonly url: string;
  readonly credentials: NbiaCredentials;
  readonly redactor: Redactor;
}

interface Session {
  readonly text: string;
  readonly lifeSeconds: number;
  readonly renewAtMs: number;
}

const TEXT_LIMIT_BYTES = 1024 * 1024;
const FIRST_BYTE_MS = 60_000;
/** Documentation says tokens last two hours; the realm export says five minutes. Renewed at this share of the life told. */
const RENEW_AT = 0.8;
/** The life of a token whose reply does not tell it: the shortest that was seen. */
const UNTOLD_LIFE_SECONDS = 300;
/** Any name will do with a password; the server wants it back with a refresh token. */
const CLIENT = "NBIA";

export class TokenKeeper {
  readonly #options: TokenKeeperOptions;
  #session: Session | null = null;
  /** Used once: the next reply brings a new one. */
  #refresh: { readonly text: string; readonly untilMs: number } | null = null;
  #login: Promise<Session> | null = null;

  constructor(options: TokenKeeperOptions) {
    this.#options = options;
  }

  /** Whether a refused token can be replaced by a new one. */
  get canRenew(): boolean {
    const { credentials } = this.#options;
    return credentials.token === undefined && credentials.user !== undefined;
  }

  /** The token to send; null: there is no login, ask anonymously. Throws `access-login`. */
  async token(context: Context): Promise<string | null> {
    const { credentials } = this.#options;
    if (credentials.token !== undefined) return credentials.token;
    if (credentials.user === undefined) return null;
    return (await this.#open(context)).text;
  }

  /** The archive did not take this token: the next request logs in again. */
  refused(token: string): void {
    if (this.#session?.text === token) this.#session = null;
  }

  /** What to say when the archive still does not take what it was sent. */
  rejection(): RunError {
    const { archive, credentials } = this.#options;
    const at = { archive };
    if (credentials.token !== undefined) {
      return new RunError(
        "access-login",
        `${archive} does not accept the token (HTTP 401): it is wrong or has ended, and a ready token can't be renewed`,
        { at, hint: `get a new token, or use \`gantry login ${archive}\` with user and password` },
      );
    }
    return new RunError("access-login", `${archive} does not accept the login (HTTP 401)`, {
      at,
      hint: `\`gantry doctor ${archive}\` says more; \`gantry login ${archive}\` stores another login`,
    });
  }

  /** Logs in if nobody has; how long the login lasts. Null: there is no user to log in. Throws `access-login`. */
  async logIn(context: Context): Promise<{ readonly user: string; readonly seconds: number } | null> {
    const { user } = this.#options.credentials;
    if (!this.canRenew || user === undefined) return null;
    return { user, seconds: (await this.#open(context)).lifeSeconds };
  }

  /** Ends the session of a token at the server. False: there is none, or the server would not. */
  async logOut(context: Context): Promise<boolean> {
    const { credentials, http, url } = this.#options;
    const token = credentials.token ?? this.#session?.text;
    if (token === undefined) return false;
    this.#session = null;
    this.#refresh = null;
    const response = await http.request(
      {
        method: "POST",
        url: new URL(`${url}/logout`),
        headers: { authorization: `Bearer ${token}` },
        firstByteTimeoutMs: FIRST_BYTE_MS,
      },
      context,
    );
    await response.discard();
    return response.status >= 200 && response.status < 300;
  }

  async #open(context: Context): Promise<Session> {
    if (this.#session && context.clock.monotonicMs() < this.#session.renewAtMs) return this.#session;
    this.#login ??= this.#renew(context).finally(() => {
      this.#login = null;
    });
    return this.#login;
  }

  /** By the refresh token while there is one that lives, else by the password. */
  async #renew(context: Context): Promise<Session> {
    const { credentials, archive } = this.#options;
    const refresh = this.#refresh;
    this.#refresh = null;
    if (refresh && context.clock.monotonicMs() < refresh.untilMs) {
      const fields = { grant_type: "refresh_token", refresh_token: refresh.text, client_id: CLIENT };
      const session = await this.#ask(fields, context);
      if (session !== null) return session;
      context.log("info", `${archive}: the login could not be prolonged; logging in again`);
    }
    const { user = "", password = "" } = credentials;
    const session = await this.#ask(
      { grant_type: "password", username: user, password, client_id: CLIENT },
      context,
    );
    if (session !== null) return session;
    throw new RunError(
      "access-login",
      `${archive} refused the login of user ${user}: wrong user name or password`,
      {
        at: { archive },
        hint: `log in again with \`gantry login ${archive}\`, or mend the account in the environment`,
      },
    );
  }

  /** One question for a token: a form; the reply is Keycloak's own. Null: refused. */
  async #ask(fields: Readonly<Record<string, string>>, context: Context): Promise<Session | null> {
    const { archive, http, url } = this.#options;
    const askedMs = context.clock.monotonicMs();
    const response = await http.request(
      {
        method: "POST",
        url: new URL(`${url}/oauth/token`),
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: new URLSearchParams(fields).toString(),
        firstByteTimeoutMs: FIRST_BYTE_MS,
      },
      context,
    );
    const failure = statusError(response, context);
    // Bad password 401, bad refresh token 400, both with `invalid_grant` (Keycloak, inferred); 403 of a locked account.
    if (failure || [400, 401, 403].includes(response.status)) {
      await response.discard();
      if (failure) throw failure.with({ archive });
      return null;
    }
    return this.#read(await this.#readReply(response, archive), askedMs);
  }

  async #readReply(response: HttpResponse, archive: string): Promise<Record<string, unknown>> {
    const text = await response.text(TEXT_LIMIT_BYTES);
    const fail = (what: string): RunError =>
      new RunError("archive-reply", `${archive}: ${what}`, {
        at: { url: response.url, archive },
        hint: "is the archive's URL that of an NBIA? A proxy or a web page may be in the way, too",
      });
    if (response.status !== 200) throw fail(`no login service answers there (HTTP ${response.status})`);
    let reply: unknown;
    try {
      reply = JSON.parse(text);
    } catch {
      // Without the cause: the parser's message shows the text, which may hold a token.
      throw fail("the answer to the login is not JSON");
    }
    if (typeof reply !== "object" || reply === null || !("access_token" in reply)) {
      throw fail("the answer to the login holds no access token");
    }
    if (typeof reply.access_token !== "string") throw fail("the access token of the login is no text");
    return { ...reply };
  }

  #read(reply: Record<string, unknown>, askedMs: number): Session {
    const seconds = (name: string): number | undefined => {
      const value = Number(reply[name]);
      return value > 0 ? value : undefined;
    };
    const text = String(reply.access_token);
    this.#options.redactor.add(text);
    const lifeSeconds = seconds("expires_in") ?? UNTOLD_LIFE_SECONDS;
    if (typeof reply.refresh_token === "string" && reply.refresh_token !== "") {
      this.#options.redactor.add(reply.refresh_token);
      // Keycloak says 0 of one that does not end.
      const untilMs = askedMs + (seconds("refresh_expires_in") ?? Number.POSITIVE_INFINITY) * 1000;
      this.#refresh = { text: reply.refresh_token, untilMs };
    }
    this.#session = { text, lifeSeconds, renewAtMs: askedMs + lifeSeconds * 1000 * RENEW_AT };
    return this.#session;
  }
}
