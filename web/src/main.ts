// The page: lakes, and one of them at length.
import type { Geometry } from "geojson";
import * as api from "./api";
import type { Alert, Lake, LakeWhole, Pass, Season, Series, Trend } from "./api";
import { Chart, extent } from "./chart";
import { Dates } from "./dates";
import { showAlerts, showDownloads, showFacts, showLegend, showOrigin, showSeasons, showUnknown } from "./details";
import { announce, by, el } from "./dom";
import { readHash, writeHash } from "./hash";
import { Images, layer, passBefore } from "./images";
import { LakeMap } from "./map";
import { startTheme } from "./theme";
import { DAY, area, day, passWords, stateOf, verdict, verdictShort } from "./words";

const REFRESH = 5 * 60_000;
const FUSED_REACH = 50 * DAY;

interface Open {
  lake: LakeWhole;
  series: Series;
  alerts: Alert[];
}

let lakes: Lake[] = [];
let open: Open | null = null;
let selected: Pass | null = null;
let track: number | null = null;
let asked = 0;

const map = new LakeMap((id) => void choose(id, null, null, "hand"));
const chart = new Chart(by("chart"), showReadout, (pass) => pick(pass));
const dates = new Dates((pass) => pick(pass));
const images = new Images();
const checked = (id: string): boolean => by<HTMLInputElement>(id).checked;

/** Passes of the chosen track. */
const mine = (): Pass[] => (open?.series.rows ?? []).filter((one) => track === null || one.track === track);

/** The track whose seasons and trend are told: the chosen one, else that of the lake's own trend. */
const headTrack = (): string => (track === null ? (open?.lake.trend?.track ?? "fused") : String(track));

function headTrend(): Trend | null {
  const statistic = open?.lake.trend?.statistic ?? "median";
  const found = open?.series.trends.find((one) => one.track === headTrack() && one.statistic === statistic);
  return found ?? (track === null ? (open?.lake.trend ?? null) : null);
}

const headSeasons = (): Season[] => (open?.series.seasons ?? []).filter((one) => one.track === headTrack());

function message(text: string | null): void {
  by("message").textContent = text ?? "";
  by("message").hidden = text === null;
  by("content").hidden = text !== null;
}

function showList(): void {
  const rows = lakes.map((lake) => {
    const latest = lake.latest;
    const known = latest && latest.area_km2 !== null ? `${area(latest.area_km2)} on ${day(latest.time)}` : "area not known";
    const alerts = lake.open_alerts;
    const button = el(
      "button",
      { type: "button", "data-lake": lake.id, "aria-current": open?.lake.id === lake.id ? "true" : null },
      el("strong", {}, lake.name),
      alerts ? el("span", { class: "badge open" }, `${alerts} ${alerts === 1 ? "alert" : "alerts"}`) : null,
      el("span", { class: "quiet" }, known),
      el("span", { class: "quiet" }, verdictShort(lake.trend)),
    );
    button.addEventListener("click", () => void choose(lake.id, null, null, "hand"));
    return el("li", {}, button);
  });
  const focused = document.activeElement instanceof HTMLElement ? document.activeElement.closest("#lakes") && document.activeElement.dataset.lake : null;
  by("lakes").replaceChildren(...rows);
  if (focused) document.querySelector<HTMLElement>(`#lakes [data-lake="${CSS.escape(focused)}"]`)?.focus();
}

function showReadout(hovered: Pass | null): void {
  const pass = hovered ?? selected;
  by("readout").textContent = pass ? `${passWords(pass)}.` : "";
}

/** All that hangs on the choice of a pass. */
function showPass(): void {
  if (!open) return;
  const { lake } = open;
  const before = selected && passBefore(open.series.rows, selected);
  chart.mark(selected, before);
  showReadout(null);
  images.show(lake.id, lake.name, selected, before);
  showDownloads(lake.id, selected, track, layer());
  void showShore(lake.id, selected);
}

let shoreWaiting = 0;

function showShore(id: string, pass: Pass | null): void {
  window.clearTimeout(shoreWaiting);
  shoreWaiting = window.setTimeout(async () => {
    let shore: Geometry | null = null;
    if (pass && pass.area_km2 !== null)
      shore = await api.outline<{ geometry: Geometry | null }>(id, pass).then((one) => one?.geometry ?? null, () => null);
    if (open?.lake.id === id && pass === selected) map.showShore(shore);
  }, 200);
}

function pick(pass: Pass): void {
  if (!open || pass === selected) return;
  selected = pass;
  dates.show(mine(), pass);
  showPass();
  writeHash({ lake: open.lake.id, date: pass.time, track }, false);
  announce(`Chart and image show ${passWords(pass)}.`);
}

/** Chart, seasons and what is told of the track. */
function showTrack(): void {
  if (!open) return;
  const { series } = open;
  const all = [...new Set(series.rows.map((one) => one.track))].sort((a, b) => a - b);
  const passes = mine().filter((one) => checked("surfaces") || ["open", "unknown"].includes(stateOf(one)));
  const known = passes.some((one) => one.area_km2 !== null);
  by("content").classList.toggle("empty", series.rows.length === 0);
  const bars = checked("season-bars");
  const trend = headTrend();
  // Of too few seasons a line would tell what nobody knows.
  const drawn = bars && trend?.slope != null && trend.intercept != null && trend.verdict !== "too_few_seasons";
  const days = by<HTMLSelectElement>("period").value;
  const seasons = bars ? headSeasons() : [];
  const fused = track === null ? reached(series) : [];
  by("chart").hidden = by("legend").hidden = !known;
  by("chart-message").hidden = known;
  by("chart-message").textContent = known ? "" : `Not known: the area; ${whyEmpty(passes.length)}.`;
  if (known) {
    const shownTrend = drawn ? trend : null;
    const reach = { extent: extent(mine()), period: days ? Number(days) : null };
    chart.show({ passes, tracks: all, fused, seasons, trend: shownTrend, intervals: checked("intervals"), ...reach });
    showLegend(passes, all, { fused: fused.length > 0, seasons: seasons.some((one) => one.median !== null), trend: drawn, intervals: checked("intervals") });
  }
  showFacts(open.lake, trend);
  by("trend").textContent = verdict(trend);
  showSeasons(series.seasons, headTrack());
  showUnknown(open.lake, trend);
  dates.show(mine(), selected);
}

/** The fused line as far as it rests on passes of open water: beyond, it is its smoother's alone. */
function reached(series: Series): Series["fused"] {
  const usable = series.rows.filter((one) => one.area_km2 !== null && ["open", "unknown"].includes(stateOf(one)));
  const times = usable.map((one) => Date.parse(one.time));
  let at = 0;
  return series.fused.filter((one) => {
    const time = Date.parse(one.time);
    while (at + 1 < times.length && Math.abs(times[at + 1]! - time) <= Math.abs(times[at]! - time)) at++;
    return times.length > 0 && Math.abs(times[at]! - time) <= FUSED_REACH;
  });
}

function whyEmpty(passes: number): string {
  if (!open?.series.rows.length) return "no pass over this lake has been processed yet";
  return passes ? "no pass saw enough of the lake" : "no pass is of what is chosen";
}

function closest(passes: Pass[], date: string | null): Pass | null {
  if (date !== null) {
    const same = passes.filter((one) => one.time.startsWith(date));
    const best = same.reduce<Pass | null>((a, b) => (a === null || (b.observed_fraction ?? 0) > (a.observed_fraction ?? 0) ? b : a), null);
    if (best) return best;
    const wanted = Date.parse(date);
    if (!Number.isNaN(wanted) && passes.length)
      return passes.reduce((a, b) => (Math.abs(Date.parse(b.time) - wanted) < Math.abs(Date.parse(a.time) - wanted) ? b : a));
  }
  return passes.filter((one) => one.area_km2 !== null).at(-1) ?? passes.at(-1) ?? null;
}

/** Shows a lake: chosen by hand, by a link, or looked at anew, which must disturb nobody. */
async function choose(id: string, date: string | null, wanted: number | null, how: "hand" | "link" | "anew"): Promise<void> {
  const mark = ++asked;
  const byHand = how === "hand";
  const listed = lakes.find((one) => one.id === id);
  if (how !== "anew") {
    map.select(id, byHand);
    by("lake-name").textContent = listed?.name ?? id;
    message("Loading …");
  }
  try {
    const [lake, series, alerts] = await Promise.all([api.lake(id), api.series(id), api.alerts(id)]);
    if (mark !== asked) return;
    if (!lake) throw new Error("the service knows nothing of this lake");
    open = { lake, series, alerts };
  } catch (error) {
    if (mark !== asked || how === "anew") return;
    open = null;
    selected = null;
    message(`Not known: this lake; ${error instanceof Error ? error.message : String(error)}.`);
    showList();
    return;
  }
  const { lake, series, alerts } = open;
  const tracks = [...new Set(series.rows.map((one) => one.track))].sort((a, b) => a - b);
  track = wanted !== null && tracks.includes(wanted) ? wanted : null;
  by<HTMLSelectElement>("track").replaceChildren(
    el("option", { value: "" }, "all"),
    ...tracks.map((one) => el("option", { value: one, selected: one === track }, String(one))),
  );
  selected = closest(mine(), date);
  document.title = `${lake.name} – Glacial lakes`;
  by("lake-name").textContent = lake.name;
  message(null);
  showList();
  showAlerts(alerts);
  showOrigin(lake);
  showTrack();
  showPass();
  writeHash({ lake: lake.id, date: date === null ? null : (selected?.time ?? null), track }, byHand);
  if (!byHand) return;
  by("lake-name").focus({ preventScroll: window.innerWidth > 900 });
  announce(`${lake.name}: ${lake.passes} passes, ${verdictShort(lake.trend)}.`);
}

async function followHash(): Promise<void> {
  const view = readHash();
  const known = lakes.find((one) => one.id === view.lake || one.id.replaceAll("_", "") === view.lake) ?? lakes[0];
  if (known) await choose(known.id, view.date, view.track, "link");
}

/** New passes come in by the hour: what is looked at stays. */
async function refresh(): Promise<void> {
  if (document.hidden) return;
  try {
    const found = await api.lakes();
    const before = open && lakes.find((one) => one.id === open?.lake.id);
    lakes = found.lakes;
    showList();
    const now = open && lakes.find((one) => one.id === open?.lake.id);
    if (!open || !now || (now.release?.id === before?.release?.id && now.open_alerts === before?.open_alerts)) return;
    await choose(now.id, readHash().date, track, "anew");
    announce(`New data of ${now.name}.`);
  } catch {
    // The service is away for the moment; what is shown stays true for its date.
  }
}

async function start(): Promise<void> {
  // On a phone a decade of intervals hides the areas.
  by<HTMLInputElement>("intervals").checked = window.innerWidth > 640;
  startTheme(() => {
    map.paint();
    showTrack();
    showPass();
  });
  for (const id of ["intervals", "surfaces", "season-bars", "period"])
    by(id).addEventListener("change", () => {
      showTrack();
      showPass();
    });
  for (const id of ["layer", "before"]) by(id).addEventListener("change", showPass);
  by("track").addEventListener("change", () => {
    const value = by<HTMLSelectElement>("track").value;
    track = value === "" ? null : Number(value);
    if (selected && !mine().includes(selected)) selected = closest(mine(), selected.time);
    showTrack();
    showPass();
    if (open) writeHash({ lake: open.lake.id, date: selected?.time ?? null, track }, false);
  });
  by("skip").addEventListener("click", (event) => {
    event.preventDefault();
    by("lake-name").focus();
  });
  try {
    const found = await api.lakes();
    lakes = found.lakes;
    if (!lakes.length) {
      message("Not known: any lake; the study names none.");
      return;
    }
    showList();
    void map.start(lakes, found.basemap ?? null).then(() => open && map.select(open.lake.id, false));
    await followHash();
  } catch (error) {
    message(`Not known: the lakes; ${error instanceof Error ? error.message : String(error)}. Reload to try again.`);
    return;
  }
  window.addEventListener("popstate", () => void followHash());
  window.setInterval(() => void refresh(), REFRESH);
}

void start();
