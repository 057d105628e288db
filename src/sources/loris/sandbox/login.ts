/** Login, tokens and sessions, which both families share (loris.md 3). */
import { createHmac, randomUUID, timingSafeEqual } from "node:crypto";
import type { Reply, SandboxRequest, World } from "../../../sandbox/stand-ins.ts";

export const SESSION_COOKIE = "PHPSESSID";

/** 24 hours, without refresh or logout. */
const TTL_SECONDS = 86_400;

const MINUTE_MS = 60_000;
const SUSPENDED = "This account is currently suspended due to too many bad login attempts.";

export interface LoginDialect {
  readonly family: "flat" | "modular";
  /** Base URL of the server, for `iss` and `aud`. */
  readonly issuer: string;
  json(status: number, value: unknown): Reply;
}

/** Who a request is from; `broken` is a header that the server's own code stumbles over. */
export type Identity = "user" | "none" | "broken";

/** Reads the whole body, as text, whatever its type is called. */
export async function bodyText(request: SandboxRequest): Promise<string> {
  if (request.text !== undefined) return request.text;
  const chunks: Uint8Array[] = [];
  for await (const chunk of request.incoming as AsyncIterable<Uint8Array>) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

export class LoginDesk {
  readonly #world: World;
  #failuresMs: number[] = [];
  #sessions = new Map<string, Promise<void>>();
  readonly #key = randomUUID();

  constructor(world: World) {
    this.#world = world;
  }

  reset(): void {
    this.#failuresMs = [];
    this.#sessions.clear();
  }

  async login(request: SandboxRequest, dialect: LoginDialect): Promise<Reply> {
    const { family, json } = dialect;
    const missing = json(400, { error: "Missing username or password" });
    let fields: unknown;
    try {
      fields = JSON.parse(await bodyText(request));
    } catch {
      return missing;
    }
    if (typeof fields !== "object" || fields === null) return missing;
    const { username, password } = fields as Record<string, unknown>;
    if (username === undefined || password === undefined || username === null || password === null)
      return missing;
    if (typeof username !== "string" || typeof password !== "string")
      return { status: 500, headers: { "Content-Type": "text/html; charset=UTF-8" } };
    if (username === "" || password === "") {
      if (family === "flat") return missing;
      return json(401, { error: `Please enter a ${password === "" ? "password" : "username"}` });
    }
    const now = Date.now();
    const within = (minutes: number): number =>
      this.#failuresMs.filter((at) => now - at < minutes * MINUTE_MS).length;
    if (within(15) > 10 || within(60) > 15) return json(401, { error: SUSPENDED });
    if (username !== this.#world.user || password !== this.#world.password) {
      this.#failuresMs.push(now);
      return json(401, { error: "Incorrect username or password." });
    }
    return json(200, { token: this.#issue(username, dialect.issuer) });
  }

  /**
   * By the token, or by the cookie of a session alone. `anyCase`: the header's name counts in any spelling (LORIS 25
   * and later); before that only as `Authorization`.
   */
  identify(request: SandboxRequest, { anyCase, modular }: { anyCase: boolean; modular: boolean }): Identity {
    const cookie = this.sessionOf(request);
    if (cookie !== undefined) return "user";
    const value = authorizationOf(request, anyCase);
    if (value === undefined) return "none";
    const space = value.indexOf(" ");
    if (space < 0) return modular ? "broken" : "none";
    const token = value.slice(space + 1);
    if (token === "") return modular && !anyCase ? "broken" : "none";
    return this.#isGood(token) ? "user" : "none";
  }

  /** The cookie of a session that this server gave, if the request has one. */
  sessionOf({ headers }: SandboxRequest): string | undefined {
    const id = new RegExp(`(?:^|;\\s*)${SESSION_COOKIE}=([^;]+)`).exec(headers.cookie ?? "")?.[1];
    return id !== undefined && this.#sessions.has(id) ? id : undefined;
  }

  openSession(): string {
    const id = randomUUID().replaceAll("-", "");
    this.#sessions.set(id, Promise.resolve());
    return id;
  }

  /** Resolves when no other request of the session is being answered; call the result when this one is over. */
  async enter(session: string): Promise<() => void> {
    const before = this.#sessions.get(session);
    let leave = (): void => undefined;
    this.#sessions.set(
      session,
      new Promise((resolve) => {
        leave = resolve;
      }),
    );
    await before;
    return leave;
  }

  /** The reply, which keeps its session locked until the body has been sent. */
  held(reply: Reply, leave: () => void): Reply {
    const { body } = reply;
    if (body === undefined || typeof body === "string" || body instanceof Uint8Array) {
      leave();
      return reply;
    }
    async function* whole(source: AsyncIterable<string | Uint8Array>): AsyncGenerator<string | Uint8Array> {
      try {
        yield* source;
      } finally {
        leave();
      }
    }
    return { ...reply, body: whole(body) };
  }

  #issue(user: string, issuer: string): string {
    const now = Math.floor(Date.now() / 1000);
    const exp = now + (this.#world.tokens.ttlSeconds ?? TTL_SECONDS);
    const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const claims = { iss: issuer, aud: issuer, iat: now, nbf: now, exp, user };
    const text = `${part({ typ: "JWT", alg: "HS256" })}.${part(claims)}`;
    return `${text}.${this.#sign(text).toString("base64url")}`;
  }

  /** A generation of tokens has its own key: an ended one is a wrong signature. */
  #sign(text: string): Buffer {
    return createHmac("sha256", `${this.#key} ${this.#world.tokens.generation}`).update(text).digest();
  }

  #isGood(token: string): boolean {
    const [head = "", claims = "", signature = ""] = token.split(".");
    const given = Buffer.from(signature, "base64url");
    const right = this.#sign(`${head}.${claims}`);
    if (given.length !== right.length || !timingSafeEqual(given, right)) return false;
    const { exp } = JSON.parse(Buffer.from(claims, "base64url").toString("utf8")) as { exp: number };
    return Date.now() < exp * 1000;
  }
}

function authorizationOf({ incoming, headers }: SandboxRequest, anyCase: boolean): string | undefined {
  if (anyCase) return headers.authorization;
  const raw = incoming.rawHeaders ?? [];
  for (let i = 0; i + 1 < raw.length; i += 2) if (raw[i] === "Authorization") return raw[i + 1];
  return undefined;
}
