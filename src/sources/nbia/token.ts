/** The access token of an NBIA archive: one login for all requests that wait for it, renewed before it ends. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import type { Redactor } from "../../lib/redact.ts";
import { type Http, statusError } from "../../transports/http.ts";

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

const TEXT_LIMIT_BYTES = 1024 * 1024;
const FIRST_BYTE_MS = 60_000;
/** Documentation says tokens last two hours; the realm export says five minutes. Renewed at this share of the life told. */
const RENEW_AT = 0.8;

export class TokenKeeper {
  readonly #options: TokenKeeperOptions;
  #token: { text: string; renewAtMs: number } | null = null;
  #login: Promise<string> | null = null;

  constructor(options: TokenKeeperOptions) {
    this.#options = options;
  }

  /** Whether a refused token can be replaced by a new one. */
  get canRenew(): boolean {
    return this.#options.credentials.user !== undefined;
  }

  /** The token to send; null: there is no login, ask anonymously. Throws `access-login`. */
  async token(context: Context): Promise<string | null> {
    const { credentials } = this.#options;
    if (credentials.token !== undefined) return credentials.token;
    if (credentials.user === undefined) return null;
    if (this.#token && context.clock.monotonicMs() < this.#token.renewAtMs) return this.#token.text;
    this.#login ??= this.#logIn(context).finally(() => {
      this.#login = null;
    });
    return this.#login;
  }

  /** The archive did not take this token: the next request logs in again. */
  refused(token: string): void {
    if (this.#token?.text === token) this.#token = null;
  }

  /** KeycloakGetToken.java: a form; the reply is Keycloak's own. */
  async #logIn(context: Context): Promise<string> {
    const { credentials, archive, http, redactor } = this.#options;
    const body = new URLSearchParams({
      grant_type: "password",
      username: credentials.user ?? "",
      password: credentials.password ?? "",
      client_id: "NBIA",
    }).toString();
    const response = await http.request(
      {
        method: "POST",
        url: new URL(`${this.#options.url}/oauth/token`),
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body,
        firstByteTimeoutMs: FIRST_BYTE_MS,
      },
      context,
    );
    const failure = statusError(response, context);
    if (failure) {
      await response.discard();
      throw failure;
    }
    const text = await response.text(TEXT_LIMIT_BYTES);
    if (response.status !== 200) {
      throw new RunError(
        "access-login",
        `${archive} refused the login of user ${credentials.user} (HTTP ${response.status})`,
      );
    }
    let reply: unknown;
    try {
      reply = JSON.parse(text);
    } catch (cause) {
      throw new RunError("archive-reply", `${archive}: the answer to the login is not JSON`, {
        cause: cause instanceof Error ? cause.name : cause,
      });
    }
    if (
      typeof reply !== "object" ||
      reply === null ||
      !("access_token" in reply) ||
      typeof reply.access_token !== "string"
    ) {
      throw new RunError("archive-reply", `${archive}: the answer to the login holds no access token`);
    }
    redactor.add(reply.access_token);
    const lifeSeconds =
      "expires_in" in reply && typeof reply.expires_in === "number" ? reply.expires_in : 300;
    this.#token = {
      text: reply.access_token,
      renewAtMs: context.clock.monotonicMs() + lifeSeconds * 1000 * RENEW_AT,
    };
    return reply.access_token;
  }
}
