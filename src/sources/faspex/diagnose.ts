/** What is in the way of a package: the link, the roads that its bytes could take, and the ports of the transfer server. */
import { RunError } from "../../errors.ts";
import { type Finding, failed, fine, warning } from "../../model/finding.ts";
import type { Ascp } from "../../transports/ascp/ascp.ts";
import { askUdp, reachTcp } from "../../transports/ports.ts";
import type { SourceContext } from "../source.ts";
import type { FaspexApi } from "./api.ts";
import { sizeOf, textOf } from "./wire.ts";

const FIREWALL =
  "ask for outbound TCP and UDP to this server and port to be opened, or try from another network";

/** Ends after the first thing that no way leads around. */
export async function* diagnosePackage(
  api: FaspexApi,
  ascp: Ascp | null,
  context: SourceContext,
): AsyncGenerator<Finding> {
  try {
    const { title, totalFiles, totalBytes, expires, encrypted } = await api.askFacts(context);
    const size = [
      totalFiles === null ? "" : `, ${totalFiles} files`,
      totalBytes === null ? "" : `, ${totalBytes} bytes`,
      expires === null ? "" : `, until ${expires.slice(0, 10)}`,
      encrypted ? ", encrypted" : "",
    ];
    yield fine("link", `opens ${api.subject}: ${JSON.stringify(title ?? "")}${size.join("")}`);
  } catch (error) {
    yield failedFor("link", error);
    return;
  }
  const gateway = await gatewayFinding(api, context);
  yield gateway;
  const http = gateway.result === "ok";
  // Where bytes can come over HTTPS, what is wrong with ascp is in nobody's way.
  const wrong = (check: string, error: unknown): Finding => {
    const found = failedFor(check, error);
    return http ? warning(check, found.detail, found.hint) : found;
  };
  try {
    if (ascp === null) throw new RunError("usage", "there is no ascp");
    const { path, from } = await ascp.find();
    yield fine("ascp", `${path} (${from})`);
    yield fine("key", await ascp.tokenKey(api.host));
  } catch (error) {
    yield wrong("ascp", error);
    return;
  }
  yield* portFindings(api, wrong, context);
}

async function gatewayFinding(api: FaspexApi, context: SourceContext): Promise<Finding> {
  const needs = "its bytes come by ascp only, which needs outbound TCP and UDP";
  try {
    const { httpForbidden } = await api.askFacts(context);
    const url = httpForbidden ? null : await api.gatewayUrl(context);
    if (url !== null) return fine("gateway", `${url.host} gives the package over HTTPS, too`);
    const why = httpForbidden ? "the package may not be downloaded over HTTP" : "the server has none";
    return warning("gateway", why, needs);
  } catch (error) {
    if (!(error instanceof RunError) || error.exit >= 130) throw error;
    return warning("gateway", error.message, needs);
  }
}

async function* portFindings(
  api: FaspexApi,
  wrong: (check: string, error: unknown) => Finding,
  context: SourceContext,
): AsyncGenerator<Finding> {
  let host: string;
  let tcp: number;
  let udp: number;
  try {
    const spec = await context.retry.run(api.subject, () => api.downloadSpec([[]], "connect", context));
    host = textOf(spec.remote_host) ?? api.host;
    tcp = sizeOf(spec.ssh_port) ?? 33_001;
    udp = sizeOf(spec.fasp_port) ?? 33_001;
  } catch (error) {
    yield wrong("transfer", error);
    return;
  }
  try {
    await reachTcp(host, tcp, context);
    yield fine(`tcp ${tcp}`, `${host} takes connections`);
  } catch (error) {
    if (!(error instanceof RunError) || error.exit >= 130) throw error;
    const other = tcp === 22 ? "" : `, and TCP 22 ${await isOpen(host, 22, context)}`;
    const options = { retry: error.retry, hint: FIREWALL };
    yield wrong(`tcp ${tcp}`, new RunError(error.code, `${error.message}${other}`, options));
    return;
  }
  if ((await askUdp(host, udp)) === "refused") {
    const what = `${host} can't be sent datagrams on UDP port ${udp}`;
    yield wrong(`udp ${udp}`, new RunError("archive-unreachable", what, { hint: FIREWALL }));
  } else {
    yield fine(`udp ${udp}`, "nothing says that it is closed; only a transfer shows that it is open");
  }
}

const isOpen = (host: string, port: number, context: SourceContext): Promise<string> =>
  reachTcp(host, port, context).then(
    () => "is open",
    () => "is closed, too",
  );

function failedFor(check: string, error: unknown): Finding {
  if (!(error instanceof RunError) || error.exit >= 130) throw error;
  return failed(check, error);
}
