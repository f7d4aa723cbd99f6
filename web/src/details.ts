// All that is told of a lake in words: facts, alerts, seasons, downloads, what is not known, what it rests on.
import type { Alert, LakeWhole, Pass, Season, Trend } from "./api";
import { capAddress, cogAddress, csvAddress, imageAddress, outlineAddress } from "./api";
import { by, el } from "./dom";
import { lineSwatch, lookOf, swatch } from "./looks";
import { STATES, area, capital, change, day, interval, moment, percent, stateOf, trackName, verdictShort } from "./words";

function pair(title: string, ...content: (Node | string)[]): HTMLElement {
  return el("div", {}, el("dt", {}, title), el("dd", {}, ...content));
}

const quiet = (text: string): HTMLElement => el("span", { class: "quiet" }, text);

export function showFacts(lake: LakeWhole, trend: Trend | null): void {
  const { latest } = lake;
  const facts = [
    latest && latest.area_km2 !== null
      ? pair("Latest area", area(latest.area_km2), quiet(interval(latest.area_low, latest.area_high)))
      : pair("Latest area", "not known"),
    latest
      ? pair("Seen", day(latest.time), quiet(`track ${latest.track}, ${STATES[stateOf(latest)]}`))
      : pair("Seen", "not yet"),
    pair("Trend", capital(verdictShort(trend).replace("trend not", "not")), quiet(trend ? `${trackName(trend.track)}, ${trend.n} seasons` : "")),
    pair("Alerts", lake.open_alerts ? `${lake.open_alerts} open` : "none open"),
  ];
  if (lake.altitude_m !== null) facts.push(pair("Altitude", `${Math.round(lake.altitude_m)} m`));
  by("facts").replaceChildren(...facts);
}

export function showLegend(passes: Pass[], tracks: number[], parts: { fused: boolean; seasons: boolean; trend: boolean; intervals: boolean }): void {
  const items: HTMLElement[] = [];
  const item = (sign: SVGElement, text: string): void => void items.push(el("li", {}, sign, text));
  for (const track of tracks) if (passes.some((one) => one.track === track)) item(swatch(lookOf(track, tracks), "open"), `track ${track}`);
  const states = new Set(passes.filter((one) => one.area_km2 !== null).map(stateOf));
  for (const state of ["ice", "wet_snow", "rough", "unknown"] as const) if (states.has(state)) item(swatch(0, state), STATES[state]);
  if (parts.intervals) item(lineSwatch("interval"), "interval");
  if (parts.fused) item(lineSwatch("fused"), "all tracks, fused");
  if (parts.seasons) item(lineSwatch("season"), "median of a season");
  if (parts.trend) item(lineSwatch("trend"), "trend, interval of its slope");
  item(lineSwatch("before"), "image before");
  if (passes.some((one) => one.area_km2 === null)) item(lineSwatch("missing"), "area of a pass not known");
  by("legend").replaceChildren(...items);
}

const STAGES = { first: "first sign", confirmed: "confirmed", closed: "closed" };

export function showAlerts(alerts: Alert[]): void {
  if (!alerts.length) {
    by("alerts").replaceChildren(el("p", {}, "None, now or before."));
    return;
  }
  const rows = alerts.map((alert) => {
    const what = alert.sign === "drop" ? "The lake shrank" : "The lake grew";
    const size = alert.change_percent === null ? "" : ` (${change(alert.change_percent)})`;
    const numbers =
      alert.area_km2 !== null && alert.expected_km2 !== null
        ? `${area(alert.area_km2)} where ${area(alert.expected_km2)} was expected${size}`
        : "by how much is not known";
    const known = alert.acknowledged
      ? `acknowledged${typeof alert.acknowledged === "string" ? ` ${day(alert.acknowledged)}` : ""}`
      : "not acknowledged";
    const dates = [`since ${day(alert.opened)}`, alert.confirmed ? `confirmed ${day(alert.confirmed)}` : "", alert.closed ? `closed ${day(alert.closed)}` : ""];
    return el(
      "li",
      { class: `alert ${alert.stage}` },
      el("span", { class: `badge ${alert.stage}` }, STAGES[alert.stage]),
      el("strong", {}, `${what}: ${numbers}`),
      el("span", { class: "quiet" }, [...dates.filter(Boolean), alert.track ? trackName(alert.track) : "", known].filter(Boolean).join(", ")),
      el("a", { href: capAddress(alert), type: "application/cap+xml", "aria-label": `Warning of ${day(alert.opened)} as CAP 1.2` }, "CAP"),
    );
  });
  by("alerts").replaceChildren(el("ul", {}, ...rows));
}

export function showSeasons(seasons: Season[], track: string): void {
  const mine = seasons.filter((one) => one.track === track);
  if (!mine.some((one) => one.passes)) {
    by("seasons").replaceChildren(el("p", {}, `Not known: the seasons of ${trackName(track)}; no season has a usable pass.`));
    return;
  }
  const number = (value: number | null | undefined): string => (value == null ? "–" : value.toFixed(3));
  const head = ["Year", "Median", "Maximum", "Fair maximum", "90th percentile", "Passes"];
  const rows = mine.map((one) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, String(one.year)),
      ...[one.median, one.maximum, one.fair_maximum, one.percentile_90].map((value) => el("td", {}, number(value))),
      el("td", {}, `${one.passes ?? 0}${one.passes_excluded ? ` (${one.passes_excluded} left out)` : ""}`),
    ),
  );
  const caption = `Of ${trackName(track)}, km². A maximum grows with the number of passes, the fair maximum does not; – is not known.`;
  const table = el(
    "table",
    { "aria-label": `Seasons of ${trackName(track)}` },
    el("thead", {}, el("tr", {}, ...head.map((one) => el("th", { scope: "col" }, one)))),
    el("tbody", {}, ...rows),
  );
  by("seasons").replaceChildren(el("p", { class: "quiet" }, caption), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of the seasons" }, table));
}

export function showDownloads(lake: string, pass: Pass | null, track: number | null, layer: string): void {
  const link = (href: string, name: string, text: string, about: string): HTMLElement =>
    el("li", {}, el("a", { href, download: name }, text), ` ${about}`);
  if (!pass) {
    by("downloads").replaceChildren(el("li", {}, "Nothing yet; no pass of this lake has been processed."));
    return;
  }
  const all = [link(csvAddress(lake, track), `${lake}.csv`, "CSV", track === null ? "areas of all passes" : `areas of track ${track}`)];
  const stem = `${lake}_${pass.time.slice(0, 10)}_track${pass.track}`;
  const when = day(pass.time);
  if (pass.area_km2 !== null) {
    all.push(link(outlineAddress(lake, pass), `${stem}.geojson`, "GeoJSON", `shore of ${when}`));
    all.push(link(cogAddress(lake, pass, "water"), `${stem}_water.tif`, "COG, water", `raster of ${when}`));
  }
  all.push(link(cogAddress(lake, pass, "vv"), `${stem}_vv.tif`, "COG, VV", `backscatter of ${when}`));
  all.push(link(imageAddress(lake, pass, layer, 2048), `${stem}_${layer}.png`, "PNG", `image of ${when}`));
  by("downloads").replaceChildren(...all);
}

export function showUnknown(lake: LakeWhole, seasonTrend: Trend | null): void {
  const unknown = Object.entries(lake.unknown ?? {}).map(([what, why]) => el("li", {}, el("strong", {}, `Not known: ${what}`), `; ${why}`));
  if (!lake.latest) unknown.unshift(el("li", {}, el("strong", {}, "Not known: any area"), "; no pass over this lake has one"));
  if (seasonTrend?.verdict === "too_few_seasons")
    unknown.push(el("li", {}, el("strong", {}, "Not known: a trend"), `; ${seasonTrend.n} seasons are too few to tell`));
  if (!unknown.length) unknown.push(el("li", {}, "Of what this page tells, everything is known."));
  by("unknown").replaceChildren(...unknown);
}

export function showOrigin(lake: LakeWhole): void {
  const short = (text: string | null | undefined): Node | string => (text ? el("code", { title: text }, text.slice(0, 20)) : "not known");
  const rows: HTMLElement[] = [];
  for (const one of lake.per_track ?? []) {
    const seen = one.seen === null ? "" : `, sees ${percent(one.seen)} of the lake zone`;
    rows.push(pair(capital(trackName(one.track)), `${one.passes} passes, ${one.known} with an area${seen}`));
  }
  for (const one of lake.volume?.estimates ?? []) {
    const range = one.volume_low === null || one.volume_high === null ? "" : ` (${one.volume_low.toFixed(0)} to ${one.volume_high.toFixed(0)})`;
    const volume = one.volume === null ? "not known" : `${one.volume.toFixed(0)}${range} million m³`;
    rows.push(pair(`Volume ${lake.volume!.year} by ${one.scaling}`, volume, quiet("a scaling of the area, no measurement")));
  }
  rows.push(
    pair("Archive", lake.source ?? "not known"),
    pair("Released", lake.release ? moment(lake.release.created) : "not yet"),
    pair("Model", lake.model ?? "not known"),
    pair("Hash of the model", short(lake.model_hash)),
    pair("Snapshot of the cube", short(lake.snapshot)),
    pair("Hash of the study", short(lake.config_hash)),
  );
  by("origin").replaceChildren(...rows);
}
