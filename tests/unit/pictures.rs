//! Guarantee: each picture of the documentation is drawn from the text beside it. `make crds` draws them.
//!
//! A picture is a grid of boxes and of arrows between them, one a line (`box KIND NAME COLUMN ROW TEXT`, `arrow FROM TO TEXT`), or
//! bars and marks of a time axis (`bar KIND COLUMN ROW WIDTH TEXT`, `mark COLUMN ROW TEXT`). ` / ` begins a new line of a text. The
//! result depends on nothing but the text: a program that lays out graphs draws differently with other fonts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The size of a cell of the grid, and of the box in it.
const CELL: (f64, f64) = (204.0, 104.0);
const BOX: (f64, f64) = (176.0, 62.0);
const MARGIN: f64 = 14.0;
/// The width of a character, rather too much than too little.
const CHARACTER: f64 = 6.9;
const LINE: f64 = 17.0;

/// The card stays light where a page is dark, so that one drawing is good for both.
const STYLE: &str = "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2933}\
    .card{fill:#fff;stroke:#cbd2d9}.first{font-weight:600}.label{font-size:12px;fill:#52606d}.behind{fill:#fff}\
    .line{stroke:#52606d;stroke-width:1.5;fill:none}.tip{fill:#52606d}.box{stroke-width:1.5}\
    .object{fill:#f0f4f8;stroke:#829ab1}.secret{fill:#fff3c4;stroke:#cb6e17}.operator{fill:#dceefb;stroke:#2680c2}\
    .outside{fill:#f3ebff;stroke:#8662c7}.workload{fill:#e3f9e5;stroke:#2f8132}.failure{fill:#ffe3e3;stroke:#cf1124}";

#[derive(Default)]
struct Picture {
    title: String,
    centers: BTreeMap<String, (f64, f64)>,
    boxes: String,
    arrows: String,
    size: (f64, f64),
}

fn center((column, row): (f64, f64)) -> (f64, f64) {
    (MARGIN + column.mul_add(CELL.0, CELL.0 / 2.0), MARGIN + row.mul_add(CELL.1, CELL.1 / 2.0))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The width of a text in the picture.
fn width(text: &str) -> f64 {
    text.chars().fold(0.0, |width, _| width + CHARACTER)
}

impl Picture {
    fn read(source: &str) -> Self {
        let mut picture = Self::default();
        for line in source.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').unwrap_or_else(|| panic!("incomplete: {line}"));
            match word {
                "title" => rest.clone_into(&mut picture.title),
                "box" => picture.add_box(rest),
                "arrow" => picture.add_arrow(rest),
                "bar" => picture.add_bar(rest),
                "mark" => picture.add_mark(rest),
                _ => panic!("unknown: {line}"),
            }
        }
        picture
    }

    /// Words, numbers, and the text after them.
    fn parts<const WORDS: usize, const NUMBERS: usize>(line: &str) -> ([&str; WORDS], [f64; NUMBERS], &str) {
        let mut parts = line.splitn(WORDS + NUMBERS + 1, ' ');
        let words = std::array::from_fn(|_| parts.next().unwrap_or_default());
        let numbers = std::array::from_fn(|_| {
            let number = parts.next().unwrap_or_default();
            number.parse().unwrap_or_else(|_| panic!("{number} is not a number: {line}"))
        });
        (words, numbers, parts.next().unwrap_or_default())
    }

    fn grow(&mut self, x: f64, y: f64) {
        self.size = (self.size.0.max(x + MARGIN), self.size.1.max(y + MARGIN));
    }

    fn add_box(&mut self, line: &str) {
        let ([kind, name], [column, row], text) = Self::parts(line);
        let (x, y) = center((column, row));
        self.centers.insert(name.to_owned(), (x, y));
        self.rectangle(kind, (x - BOX.0 / 2.0, y - BOX.1 / 2.0), BOX, text);
    }

    fn add_bar(&mut self, line: &str) {
        let ([kind], [column, row, columns], text) = Self::parts(line);
        let (x, y) = center((column - 0.5, row));
        self.rectangle(kind, (x, y - 22.0), (columns * CELL.0, 44.0), text);
    }

    fn rectangle(&mut self, kind: &str, (x, y): (f64, f64), (wide, high): (f64, f64), text: &str) {
        let _ = writeln!(
            self.boxes,
            "<rect class=\"box {kind}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\" rx=\"6\"/>"
        );
        let lines: Vec<&str> = text.split(" / ").collect();
        let longest = lines.iter().map(|line| width(line)).fold(0.0, f64::max);
        assert!(longest <= wide, "too long for its box: {text}");
        self.lines((x + wide / 2.0, y + high / 2.0), &lines, "first");
        self.grow(x + wide, y + high);
    }

    /// Centered lines, the first of another class.
    fn lines(&mut self, (x, y): (f64, f64), lines: &[&str], first: &str) {
        let mut baseline = lines.iter().skip(1).fold(y, |top, _| top - LINE / 2.0) + 4.5;
        for (line, class) in lines.iter().zip(std::iter::once(first).chain(std::iter::repeat("label"))) {
            let text = escaped(line);
            let _ = writeln!(
                self.boxes,
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{baseline:.1}\" text-anchor=\"middle\">{text}</text>"
            );
            baseline += LINE;
        }
    }

    /// From border to border, with its text in the middle.
    fn add_arrow(&mut self, line: &str) {
        let ([from, to], [], text) = Self::parts(line);
        let at = |name: &str| *self.centers.get(name).unwrap_or_else(|| panic!("no box {name}: {line}"));
        let (start, end) = (at(from), at(to));
        let (dx, dy) = (end.0 - start.0, end.1 - start.1);
        // The part of the way that is in a box.
        let covered = |gap: f64| ((BOX.0 / 2.0 + gap) / dx.abs()).min((BOX.1 / 2.0 + gap) / dy.abs());
        let (out, in_) = (covered(1.0), covered(9.0));
        let (x1, y1) = (dx.mul_add(out, start.0), dy.mul_add(out, start.1));
        let (x2, y2) = (dx.mul_add(-in_, end.0), dy.mul_add(-in_, end.1));
        let _ = writeln!(
            self.arrows,
            "<path class=\"line\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" marker-end=\"url(#tip)\"/>"
        );
        if text.is_empty() {
            return;
        }
        let lines: Vec<&str> = text.split(" / ").collect();
        let (x, y) = (f64::midpoint(x1, x2), f64::midpoint(y1, y2));
        let wide = lines.iter().map(|line| width(line)).fold(0.0, f64::max);
        let high = lines.iter().fold(0.0, |high, _| high + LINE);
        let (left, top) = (x - wide / 2.0, y - high / 2.0);
        let _ = writeln!(
            self.boxes,
            "<rect class=\"behind\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\"/>"
        );
        self.lines((x, y), &lines, "label");
    }

    /// A time on an axis, with its text below.
    fn add_mark(&mut self, line: &str) {
        let ([], [column, row], text) = Self::parts(line);
        let (x, y) = center((column - 0.5, row));
        let (top, bottom) = (y - 30.0, y + 30.0);
        let _ = writeln!(self.arrows, "<path class=\"line\" d=\"M{x:.1} {top:.1}L{x:.1} {bottom:.1}\"/>");
        let lines: Vec<&str> = text.split(" / ").collect();
        let below = lines.iter().skip(1).fold(bottom + 10.0, |below, _| below + LINE / 2.0);
        self.lines((x, below), &lines, "label");
        let last = lines.iter().fold(bottom, |last, _| last + LINE);
        self.grow(x + lines.iter().map(|line| width(line)).fold(0.0, f64::max) / 2.0, last);
    }

    fn draw(&self) -> String {
        let Self { title, boxes, arrows, size: (wide, high), centers: _ } = self;
        let title = escaped(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {high:.0}\" width=\"{wide:.0}\" height=\"{high:.0}\" role=\"img\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n\
             <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"1\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto-start-reverse\"><path class=\"tip\" d=\"M0 0L8 4L0 8z\"/></marker></defs>\n\
             <rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"8\"/>\n{arrows}{boxes}</svg>\n",
            wide - 1.0,
            high - 1.0,
        )
    }
}

#[test]
fn each_picture_is_drawn_from_its_text() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures");
    let entries = fs::read_dir(&directory).expect("the pictures");
    let mut sources: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    assert!(sources.len() >= 4, "{sources:?}");
    for source in sources {
        let drawn = Picture::read(&fs::read_to_string(&source).expect("a text")).draw();
        let file = source.with_extension("svg");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&file, &drawn).expect("a picture");
        }
        let written = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(written, drawn, "{} is not up to date: run make crds", file.display());
    }
}
