/** What is in the way of a site: its name, the ports of SSH and UDP, the login, and the ways that bytes could take. */
import { RunError } from "../../errors.ts";
import { type Finding, failed, fine, warning } from "../../model/finding.ts";
import type { Ascp } from "../../transports/ascp/ascp.ts";
import { askUdp, findName, reachTcp } from "../../transports/ports.ts";
import type { Sftp } from "../../transports/sftp/sftp.ts";
import type { SourceContext } from "../source.ts";

export interface SiteParts {
  readonly ascp: Ascp;
  readonly sftp: Sftp;
  /** Of SSH, where ascp is to go. */
  readonly port: number;
  /** Of UDP. */
  readonly udp: number;
}

const FIREWALL =
  "ask for outbound TCP and UDP to this server and port to be opened, or try from another network";

/** Ends after the first thing that no way leads around. */
export async function* diagnoseSite(parts: SiteParts, context: SourceContext): AsyncGenerator<Finding> {
  const { ascp, sftp, port, udp } = parts;
  const { user, host } = sftp.site;
  const step = async (check: string, work: () => Promise<string>): Promise<Finding> => {
    try {
      return fine(check, await work());
    } catch (error) {
      if (!(error instanceof RunError) || error.exit >= 130) throw error;
      return failed(check, error);
    }
  };
  const name = await step("name", async () => `${host} is ${(await findName(host, context)).join(", ")}`);
  yield name;
  if (name.result === "failed") return;
  // Where one of the ports is open, what is wrong with another is in nobody's way.
  const ports: Finding[] = [];
  for (const each of sftp.site.ports)
    ports.push(
      await step(`tcp ${each}`, async () => {
        await reachTcp(host, each, context);
        return `${host} takes connections`;
      }),
    );
  const open = ports.some(({ result }) => result === "ok");
  for (const each of ports)
    yield each.result === "ok" || !open
      ? withHint(each, FIREWALL)
      : warning(each.check, each.detail, FIREWALL);
  if (!open) return;
  let lists = false;
  const login = await step("login", async () => {
    await ascp.secrets.checkLogin({ host, user });
    lists = (await sftp.connection(context)) !== null;
    return lists ? `${host} lets ${user} in` : "not tried: only a transfer shows whether it is right";
  });
  yield login;
  if (login.result === "failed") return;
  yield lists
    ? fine("sftp", "files can be listed, and got without ascp")
    : warning(
        "sftp",
        `${host} offers none to ${user}`,
        "it can't be listed, and needs ascp: a path of it is got whole",
      );
  const wrong = (found: Finding): Finding =>
    lists && found.result === "failed" ? warning(found.check, found.detail, found.hint) : found;
  const program = await step("ascp", async () => {
    const { path, from } = await ascp.find();
    return `${path} (${from})`;
  });
  yield wrong(program);
  if (program.result === "failed") return;
  const reached = ports.find(({ check }) => check === `tcp ${port}`)?.result === "ok";
  if (!reached) {
    const closed = `ascp goes to TCP port ${port}, which is closed`;
    yield wrong(failed("control", new RunError("archive-unreachable", closed, { hint: FIREWALL })));
    return;
  }
  if ((await askUdp(host, udp)) === "refused") {
    const what = `${host} can't be sent datagrams on UDP port ${udp}`;
    yield wrong(failed(`udp ${udp}`, new RunError("archive-unreachable", what, { hint: FIREWALL })));
  } else {
    yield fine(`udp ${udp}`, "nothing says that it is closed; only a transfer shows that it is open");
  }
}

const withHint = (found: Finding, hint: string): Finding =>
  found.result === "failed" ? { ...found, hint } : found;
