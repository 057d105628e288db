/**
 * The token service: Keycloak behind NBIA's own endpoint (CBIIT/NBIA-TCIA software/nbia-api
 * restAPI/KeycloakGetToken.java, KeycloakLogout.java).
 */
import { createHash } from "node:crypto";
import type { Reply, SandboxRequest, World } from "../../../sandbox/stand-ins.ts";
import { serverError } from "./format.ts";

/** Who asks: `guest` sees public data, the demo user also restricted ones. */
export type User = "guest" | "demo";

/** Any password will do for this name: the server puts in its own. */
const GUEST = "nbia_guest";

/** Two hours (TCIA wiki, NBIA Search REST API with Authentication Guide). */
const TTL_SECONDS = 7200;

interface Session {
  readonly user: User;
  readonly generation: number;
  readonly expiresAtMs: number;
}

export class TokenService {
  #world: World;
  #access = new Map<string, Session>();
  #refresh = new Map<string, Session>();
  #count = 0;

  constructor(world: World) {
    this.#world = world;
  }

  reset(): void {
    this.#access.clear();
    this.#refresh.clear();
  }

  /** The user of an Authorization header; undefined when its token is unknown or expired. */
  userOf(authorization: string): User | undefined {
    const token = authorization.replace(/^Bearer\s+/i, "");
    // The web portal sends this before its user logs in; the server takes it as the guest.
    if (token === "undefined") return "guest";
    const session = this.#access.get(token);
    return session !== undefined && this.#isAlive(session) ? session.user : undefined;
  }

  /** Fields come in the body, or in the query with an empty body as old clients send them. */
  token(request: SandboxRequest): Reply {
    const field = (name: string) => request.form.get(name) ?? request.query.get(name);
    switch (field("grant_type")?.toLowerCase()) {
      case undefined:
        return serverError(null);
      case "password": {
        const { user, password } = this.#world;
        const name = field("username");
        if (name === GUEST) return this.#issue("guest");
        if (name === user && field("password") === password) return this.#issue("demo");
        return refused(401, "Invalid user credentials");
      }
      case "refresh_token": {
        const session = this.#refresh.get(field("refresh_token") ?? "");
        if (session === undefined || !this.#isAlive(session)) return refused(400, "Invalid refresh token");
        return this.#issue(session.user);
      }
      default:
        // The server answers with status 0, which is no HTTP.
        return { status: 0, hangUp: true };
    }
  }

  logout(request: SandboxRequest): Reply {
    const token = request.headers.authorization?.replace(/^Bearer\s+/i, "");
    if (token !== undefined) this.#access.delete(token);
    return { status: 200 };
  }

  #isAlive(session: Session): boolean {
    return session.generation === this.#world.tokens.generation && Date.now() < session.expiresAtMs;
  }

  #issue(user: User): Reply {
    const { ttlSeconds = TTL_SECONDS, generation } = this.#world.tokens;
    const now = Date.now();
    const expiresAtMs = now + ttlSeconds * 1000;
    const access = this.#write({
      typ: "Bearer",
      preferred_username: user,
      exp: Math.floor(expiresAtMs / 1000),
    });
    const refresh = this.#write({ typ: "Refresh", preferred_username: user });
    this.#access.set(access, { user, generation, expiresAtMs });
    this.#refresh.set(refresh, { user, generation, expiresAtMs: now + 2 * ttlSeconds * 1000 });
    const body = {
      access_token: access,
      expires_in: ttlSeconds,
      refresh_expires_in: 2 * ttlSeconds,
      refresh_token: refresh,
      token_type: "Bearer",
      id_token: this.#write({ typ: "ID", preferred_username: user }),
      "not-before-policy": 0,
      session_state: `sandbox-${this.#count}`,
      scope: "openid profile email",
    };
    return { status: 200, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  }

  /** Looks like a JSON Web Token; is only ever compared as a whole. */
  #write(claims: Record<string, unknown>): string {
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const text = `${part({ alg: "RS256", typ: "JWT" })}.${part({ jti: ++this.#count, iss: "sandbox", ...claims })}`;
    return `${text}.${createHash("sha256").update(`sandbox ${text}`).digest("base64url")}`;
  }
}

function refused(status: number, description: string): Reply {
  const body = JSON.stringify({ error: "invalid_grant", error_description: description });
  return { status, headers: { "Content-Type": "application/json" }, body };
}
