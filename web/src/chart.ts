// The area chart: passes by track and state with their intervals, the fused line, seasons and trend. Gaps stay gaps.
import type { Fused, Pass, Season, State, Trend } from "./api";
import { svg } from "./dom";
import { inside, lookOf, marker } from "./looks";
import { DAY, stateOf } from "./words";

export interface Shown {
  passes: Pass[];
  tracks: number[];
  fused: Fused[];
  seasons: Season[];
  trend: Trend | null;
  intervals: boolean;
  /** First and last moment of the whole record. */
  extent: [number, number];
  /** Days about the selected pass; null is the whole record. */
  period: number | null;
}

/** Passes of a track further apart than this have a missing one between them: the repeat is 12 days. */
const LONGEST_STEP = 12.5 * DAY;
/** The fused line ends where no pass was used for so long. */
const FUSED_GAP = 100 * DAY;
/** Less than this part of what a track ever sees is drawn faint. */
const MIN_OBSERVED = 0.9;

export const MARGIN = { top: 12, right: 14, bottom: 26, left: 50 };
const REACH = 28;

const stamp = (one: { time: string }): number => Date.parse(one.time);
/** The middle of a usual season, to draw what stands for all of it. */
const middle = (year: number): number => Date.UTC(year, 7, 15);

interface Point {
  pass: Pass;
  x: number;
  y: number;
}

export class Chart {
  private shown: Shown | null = null;
  private points: Point[] = [];
  private selected: Pass | null = null;
  private compared: Pass | null = null;
  private domain: [number, number] = [0, 1];
  private overlay = svg("g");
  private hovered = svg("g");
  private width = 0;

  constructor(
    private host: HTMLElement,
    private onHover: (pass: Pass | null) => void,
    onPick: (pass: Pass) => void,
  ) {
    host.addEventListener("pointermove", (event) => this.hover(this.nearest(event)));
    host.addEventListener("pointerleave", () => this.hover(null));
    host.addEventListener("click", (event) => {
      const found = this.nearest(event);
      if (found) onPick(found.pass);
    });
    new ResizeObserver(() => {
      if (host.clientWidth !== this.width) this.draw();
    }).observe(host);
  }

  show(shown: Shown): void {
    this.shown = shown;
    this.draw();
  }

  mark(selected: Pass | null, compared: Pass | null): void {
    this.selected = selected;
    this.compared = compared;
    const moved = this.shown?.period && selected && !this.within(stamp(selected));
    if (moved) this.draw();
    else this.drawMarks();
  }

  private within(time: number): boolean {
    const [start, end] = this.domain;
    const edge = (end - start) * 0.04;
    return time >= start + edge && time <= end - edge;
  }

  private x = (time: number): number => {
    const [start, end] = this.domain;
    return MARGIN.left + ((time - start) / (end - start)) * (this.width - MARGIN.left - MARGIN.right);
  };

  private nearest(event: MouseEvent): Point | null {
    const box = this.host.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let found: Point | null = null;
    let least = REACH ** 2;
    for (const point of this.points) {
      const distance = (point.x - x) ** 2 + ((point.y - y) / 3) ** 2;
      if (distance < least) [found, least] = [point, distance];
    }
    return found;
  }

  private hover(point: Point | null): void {
    this.hovered.replaceChildren(...(point ? [svg("circle", { class: "hover", cx: point.x, cy: point.y, r: 8 })] : []));
    this.host.classList.toggle("pointing", point !== null);
    this.onHover(point?.pass ?? null);
  }

  private draw(): void {
    const { shown, host } = this;
    this.width = host.clientWidth;
    if (!shown || this.width < 100) return;
    const height = this.width < 520 ? 260 : 340;
    const bottom = height - MARGIN.bottom;
    this.domain = period(shown, this.selected);
    const [start, end] = this.domain;
    const seen = <T extends { time: string }>(all: T[]): T[] => all.filter((one) => stamp(one) >= start && stamp(one) <= end);
    const passes = seen(shown.passes);
    const fused = seen(shown.fused);
    const [low, high] = range(passes, fused, shown);
    const ticks = steps(low, high, Math.round(height / 60));
    const [bottomValue, topValue] = [Math.min(low, ticks[0] ?? low), Math.max(high, ticks.at(-1) ?? high)];
    const y = (km2: number): number => bottom - ((km2 - bottomValue) / (topValue - bottomValue)) * (bottom - MARGIN.top);
    const x = this.x;

    const axes = svg("g", { class: "axes" });
    const digits = decimals(ticks);
    for (const tick of ticks) {
      axes.append(
        svg("path", { class: "grid", d: `M${MARGIN.left} ${y(tick)}H${this.width - MARGIN.right}` }),
        svg("text", { x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick.toFixed(digits)),
      );
    }
    for (const [time, label] of calendar(start, end, this.width - MARGIN.left - MARGIN.right)) {
      axes.append(
        svg("path", { class: "grid", d: `M${x(time)} ${MARGIN.top}V${bottom}` }),
        svg("text", { x: x(time), y: height - 8, "text-anchor": "middle" }, label),
      );
    }
    axes.append(svg("path", { class: "axis", d: `M${MARGIN.left} ${bottom}H${this.width - MARGIN.right}` }));

    const clip = svg("clipPath", { id: "plot" });
    clip.append(
      svg("rect", { x: MARGIN.left - 6, y: 0, width: this.width - MARGIN.left - MARGIN.right + 12, height: bottom + 6 }),
    );
    const plot = svg("g", { "clip-path": "url(#plot)" });
    plot.append(...fusedParts(fused, x, y), ...seasonParts(shown, x, y, start, end));
    this.points = [];
    plot.append(...this.passParts(passes, shown, x, y, bottom));
    plot.append(this.overlay, this.hovered);
    this.hovered.replaceChildren();

    host.replaceChildren(
      svg(
        "svg",
        { width: this.width, height, viewBox: `0 0 ${this.width} ${height}`, role: "img", "aria-label": summary(passes, start, end) },
        clip,
        axes,
        plot,
        svg("text", { class: "unit", x: 2, y: 10 }, "km²"),
      ),
    );
    this.drawMarks();
  }

  private passParts(passes: Pass[], shown: Shown, x: (t: number) => number, y: (a: number) => number, bottom: number): SVGElement[] {
    const lines: SVGElement[] = [];
    const markers: SVGElement[] = [];
    const radius = Math.min(4, Math.max(2.2, (2.4 * this.width) / Math.max(passes.length, 1)));
    let missing = "";
    for (const track of shown.tracks) {
      const mine = passes.filter((one) => one.track === track);
      const best = Math.max(...mine.map((one) => one.observed_fraction ?? 0));
      const look = lookOf(track, shown.tracks);
      const groups = new Map<string, { state: State; faint: boolean; d: string; signs: string }>();
      let intervals = "";
      let line = "";
      let before = -Infinity;
      for (const pass of mine) {
        const [time, at] = [stamp(pass), x(stamp(pass))];
        if (pass.area_km2 === null) {
          missing += `M${at - 2.5} ${bottom - 8}l5 5m0 -5l-5 5`;
          this.points.push({ pass, x: at, y: bottom - 5 });
          continue;
        }
        const [height, state] = [y(pass.area_km2), stateOf(pass)];
        line += `${time - before <= LONGEST_STEP ? "L" : "M"}${at.toFixed(1)} ${height.toFixed(1)}`;
        before = time;
        if (shown.intervals && pass.area_low !== null && pass.area_high !== null)
          intervals += `M${at.toFixed(1)} ${y(pass.area_low).toFixed(1)}V${y(pass.area_high).toFixed(1)}`;
        const faint = (pass.observed_fraction ?? 0) < MIN_OBSERVED * best;
        const group = groups.get(`${state} ${faint}`) ?? { state, faint, d: "", signs: "" };
        group.d += marker(look, at, height, radius);
        group.signs += inside(state, at, height);
        groups.set(`${state} ${faint}`, group);
        this.points.push({ pass, x: at, y: height });
      }
      if (intervals) lines.push(svg("path", { class: `interval look-${look}`, d: intervals }));
      if (line) lines.push(svg("path", { class: `line look-${look}`, d: line }));
      for (const { state, faint, d, signs } of groups.values()) {
        const part = svg("g", { class: `look-${look}${faint ? " faint" : ""}` });
        part.append(svg("path", { class: `marker ${state}`, d }));
        if (signs) part.append(svg("path", { class: `sign ${state}`, d: signs }));
        markers.push(part);
      }
    }
    if (missing) markers.push(svg("path", { class: "missing", d: missing }));
    return [...lines, ...markers];
  }

  private drawMarks(): void {
    if (!this.shown || !this.width) return;
    const parts: SVGElement[] = [];
    const bottom = (this.width < 520 ? 260 : 340) - MARGIN.bottom;
    for (const [pass, name] of [[this.compared, "before"], [this.selected, "now"]] as const) {
      if (!pass) continue;
      const at = this.x(stamp(pass));
      parts.push(svg("path", { class: `mark ${name}`, d: `M${at} ${MARGIN.top}V${bottom}` }));
      const point = this.points.find((one) => one.pass === pass);
      if (point) parts.push(svg("circle", { class: `mark ${name}`, cx: at, cy: point.y, r: 7, "data-time": pass.time }));
    }
    this.overlay.replaceChildren(...parts);
  }
}

/** The record's first and last moment, with some room beside them: of the chart and of its slider. */
export function extent(passes: Pass[]): [number, number] {
  if (!passes.length) return [0, 1];
  const [first, last] = [stamp(passes[0]!), stamp(passes.at(-1)!)];
  const edge = Math.max((last - first) * 0.01, 5 * DAY);
  return [first - edge, last + edge];
}

function period(shown: Shown, selected: Pass | null): [number, number] {
  const [start, end] = shown.extent;
  const days = shown.period;
  if (days === null || days * DAY >= end - start || !selected) return [start, end];
  const from = Math.min(Math.max(stamp(selected) - (days * DAY) / 2, start), end - days * DAY);
  return [from, from + days * DAY];
}

function range(passes: Pass[], fused: Fused[], shown: Shown): [number, number] {
  const known = (values: (number | null)[]): number[] => values.filter((one) => one !== null).sort((a, b) => a - b);
  const areas = known([...passes, ...fused].map((one) => one.area_km2));
  if (!areas.length) return [0, 1];
  // All areas have room; the widest of the intervals run out of the chart, since they would flatten all else.
  const lows = shown.intervals ? known(passes.map((one) => one.area_low)) : [];
  const highs = shown.intervals ? known(passes.map((one) => one.area_high)) : [];
  const low = Math.min(areas[0]!, lows[Math.floor(lows.length * 0.05)] ?? Infinity);
  const high = Math.max(areas.at(-1)!, highs[Math.floor(highs.length * 0.9)] ?? -Infinity);
  const edge = Math.max((high - low) * 0.04, 0.002);
  return [Math.max(0, low - edge), high + edge];
}

function fusedParts(fused: Fused[], x: (t: number) => number, y: (a: number) => number): SVGElement[] {
  const runs: Fused[][] = [];
  for (const one of fused) {
    if (one.area_km2 === null) continue;
    const run = runs.at(-1);
    if (run && stamp(one) - stamp(run.at(-1)!) <= FUSED_GAP) run.push(one);
    else runs.push([one]);
  }
  const path = (points: [number, number][]): string => points.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(1)}`).join("L");
  const bands = runs.map((run) => {
    const known = run.filter((one) => one.area_low !== null && one.area_high !== null);
    const up = known.map((one): [number, number] => [x(stamp(one)), y(one.area_high!)]);
    const down = known.map((one): [number, number] => [x(stamp(one)), y(one.area_low!)]).reverse();
    return known.length > 1 ? `M${path([...up, ...down])}Z` : "";
  });
  const lines = runs.map((run) => `M${path(run.map((one) => [x(stamp(one)), y(one.area_km2!)]))}`);
  if (!runs.length) return [];
  return [svg("path", { class: "fused-band", d: bands.join("") }), svg("path", { class: "fused", d: lines.join("") })];
}

function seasonParts(shown: Shown, x: (t: number) => number, y: (a: number) => number, start: number, end: number): SVGElement[] {
  const known = shown.seasons.filter((one) => one.median !== null);
  const half = 46 * DAY;
  const inView = known.filter((one) => middle(one.year) + half > start && middle(one.year) - half < end);
  const bars = inView.map((one) => `M${x(middle(one.year) - half)} ${y(one.median!)}H${x(middle(one.year) + half)}`).join("");
  const parts: SVGElement[] = bars ? [svg("path", { class: "season", d: bars })] : [];
  const { trend } = shown;
  const [first, last] = [known[0]?.year, known.at(-1)?.year];
  if (!trend || trend.slope === null || trend.intercept == null || first === undefined || last === undefined || first === last) return parts;
  const value = (year: number, slope: number): number => {
    const centre = (first + last) / 2;
    return trend.intercept! + trend.slope! * centre + slope * (year - centre);
  };
  const line = (slope: number): [string, string] => [
    `${x(middle(first))} ${y(value(first, slope))}`,
    `${x(middle(last))} ${y(value(last, slope))}`,
  ];
  if (trend.slope_low !== null && trend.slope_high !== null) {
    const [[a, b], [c, d]] = [line(trend.slope_low), line(trend.slope_high)];
    parts.unshift(svg("path", { class: "trend-band", d: `M${a}L${b}L${d}L${c}Z` }));
  }
  parts.push(svg("path", { class: "trend", d: `M${line(trend.slope).join("L")}` }));
  return parts;
}

function steps(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5, 10].find((one) => one * power >= rough) ?? 10);
  const found: number[] = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) found.push(at * step);
  return found;
}

function decimals(ticks: number[]): number {
  const step = ticks.length > 1 ? ticks[1]! - ticks[0]! : 1;
  for (let digits = 0; digits < 5; digits++) if (Math.abs(Number(step.toFixed(digits)) - step) < step * 1e-6) return digits;
  return 5;
}

function calendar(start: number, end: number, width: number): [number, string][] {
  const months = (end - start) / (30.44 * DAY);
  const step = [1, 2, 3, 6, 12, 24, 36, 60, 120].find((one) => (width / months) * one >= 48) ?? 120;
  const found: [number, string][] = [];
  const from = new Date(start).getUTCFullYear();
  for (let month = 0; ; month += step) {
    const time = Date.UTC(from, month, 1);
    if (time > end) return found;
    if (step > 12 && new Date(time).getUTCFullYear() % (step / 12)) {
      month -= step - 12;
      continue;
    }
    const at = new Date(time);
    const name = at.toLocaleString("en-GB", { month: "short", timeZone: "UTC" });
    if (time >= start) found.push([time, at.getUTCMonth() === 0 ? String(at.getUTCFullYear()) : name]);
  }
}

function summary(passes: Pass[], start: number, end: number): string {
  const known = passes.map((one) => one.area_km2).filter((one) => one !== null);
  const years = `${new Date(start).getUTCFullYear()} to ${new Date(end).getUTCFullYear()}`;
  if (!known.length) return `Areas of ${passes.length} passes, ${years}; none is known`;
  const [least, most] = [Math.min(...known), Math.max(...known)];
  return `Areas of ${passes.length} passes, ${years}: ${known.length} known, from ${least.toFixed(2)} to ${most.toFixed(2)} km². The slider below goes through them.`;
}
