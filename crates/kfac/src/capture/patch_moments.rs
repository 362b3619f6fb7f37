//! The second moments of a convolution's patches, without making the patches.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use burn::tensor::{Slice, Tensor};

use super::patch_geometry::{PatchAxis, PatchGeometry};

/// Pairs of kernel offsets along an axis whose inputs are the same distance apart.
#[derive(Debug)]
struct Lag {
    /// The phases of the inputs that the two read.
    phases: [usize; 2],
    /// How far the second reads ahead of the first, in inputs of the phases.
    distance: isize,
    pairs: Vec<Pair>,
}

/// Two kernel offsets.
#[derive(Debug)]
struct Pair {
    offsets: [usize; 2],
    /// The inputs that the first reads where the second reads within the input too.
    window: Range<usize>,
}

/// The inputs of all cases by pixels.
#[derive(Debug)]
struct Pixels {
    cases: usize,
    /// By the phases along the axes, the pixels of a row with all cases behind each other:
    /// `[depth′, height′, width′ · n, groups, channels]`.
    phases: BTreeMap<[usize; 3], Tensor<5>>,
}

/// The blocks of the moment by pairs of kernel offsets, `[groups, channels, channels]` each.
#[derive(Debug)]
struct OffsetBlocks {
    kernel: [usize; 3],
    /// `None` where no output reads at both, and where the second offset comes before the first.
    blocks: Vec<Option<Tensor<3>>>,
}

impl PatchGeometry {
    /// The sum of the outer products of the patches of all cases at all output positions.
    ///
    /// # Definition
    ///
    /// With the inputs `x` at offsets `δ` and `δ′` of the patches,
    ///
    /// ```text
    /// Σ_t x(t + δ) x(t + δ′)ᵀ = Σ_y x(y) x(y + δ′ − δ)ᵀ      over the y = t + δ of all outputs t
    /// ```
    ///
    /// Pairs of the same distance `δ′ − δ` sum the same products, and differ only in which pixels at the
    /// borders are among them. So the products are formed once for each distance: along the width in the
    /// pieces between the ends of the windows, along the other axes for each pixel.
    ///
    /// # Shapes
    ///
    /// `[n, groups · channels, depth, height, width] -> [groups, channels · offsets, channels · offsets]`
    ///
    /// # Cost
    ///
    /// `½ Π (2 k − 1) c²` multiply-adds a pixel for kernels of `k` offsets along each axis and stride one,
    /// where patches take `Π k² c²`.
    pub(super) fn patch_moments(&self, input: &Tensor<5>, groups: usize) -> Tensor<3> {
        let lags = self.lags(input);
        let pixels = Pixels::new(self, input, (groups, &lags));
        let mut blocks = OffsetBlocks::new(self);
        let [lags0, lags1, lags2] = &lags;
        for lag0 in lags0 {
            for lag1 in lags1 {
                for lag2 in lags2 {
                    pixels.add([lag0, lag1, lag2], &mut blocks);
                }
            }
        }
        let channels = input.dims()[1] / groups;
        blocks.moment(Tensor::zeros(
            [groups, channels, channels],
            (&input.device(), input.dtype()),
        ))
    }

    /// Whether [`patch_moments`](Self::patch_moments) is cheaper than making the patches.
    ///
    /// Where kernels hardly overlap there are as many distances as pairs of offsets, and small products
    /// are slow. A single offset needs no patches made.
    pub(super) fn shares_products(&self, input: &Tensor<5>, groups: usize) -> bool {
        let [n, channels, _, _, width] = input.dims();
        let channels = channels / groups;
        let distances: usize = self.lags(input).iter().map(Vec::len).product();
        let summed_at_once = n * width.div_ceil(self.axes[2].step());
        let product = channels * (channels + SMALL_PRODUCT) + CALL / summed_at_once.max(1);
        let elements = channels * self.offsets();
        self.offsets() > 1 && distances.div_ceil(2) * product < elements * (elements + COPY)
    }

    fn lags(&self, input: &Tensor<5>) -> [Vec<Lag>; 3] {
        let lengths = input.dims();
        std::array::from_fn(|axis| self.axes[axis].lags(lengths[axis + 2]))
    }
}

/// What a product costs beside its multiply-adds, in multiply-adds for each channel that it reads.
const SMALL_PRODUCT: usize = 16;

/// What calling a product costs, in multiply-adds.
const CALL: usize = 50_000;

/// What making an element of a patch costs, in multiply-adds.
const COPY: usize = 64;

impl PatchAxis {
    /// All pairs of kernel offsets at which some output reads two inputs out of so many.
    fn lags(self, length: usize) -> Vec<Lag> {
        let mut lags: BTreeMap<_, Vec<Pair>> = BTreeMap::new();
        for offset in 0..self.kernel {
            for other in 0..self.kernel {
                let [a, b] = [offset, other].map(|offset| self.reading(offset));
                let [read_a, read_b] =
                    [a, b].map(|r| r.within(self.inputs_of_phase(r.phase, length)));
                let outputs = read_a.start.max(read_b.start)..read_a.end.min(read_b.end);
                if a.residue != b.residue || outputs.is_empty() {
                    continue;
                }
                let [start, end] =
                    [outputs.start, outputs.end].map(|u| (u + a.shift).cast_unsigned());
                let lag = lags.entry(([a.phase, b.phase], b.shift - a.shift));
                lag.or_default().push(Pair {
                    offsets: [offset, other],
                    window: start..end,
                });
            }
        }
        let lag = |((phases, distance), pairs)| Lag {
            phases,
            distance,
            pairs,
        };
        lags.into_iter().map(lag).collect()
    }
}

impl Lag {
    /// The inputs that any pair reads first.
    fn hull(&self) -> Range<usize> {
        let windows = || self.pairs.iter().map(|pair| &pair.window);
        let start = windows().map(|window| window.start).min();
        let end = windows().map(|window| window.end).max();
        start.unwrap_or(0)..end.unwrap_or(0)
    }

    /// The pieces between the ends of the pairs' windows: each is within a window or outside it.
    fn pieces(&self) -> Vec<Range<usize>> {
        let windows = self.pairs.iter().map(|pair| &pair.window);
        let mut ends: Vec<usize> = windows.flat_map(|w| [w.start, w.end]).collect();
        ends.sort_unstable();
        ends.dedup();
        let pieces = ends.windows(2).map(|ends| ends[0]..ends[1]);
        let used =
            |piece: &Range<usize>| self.pairs.iter().any(|pair| contains(&pair.window, piece));
        pieces.filter(used).collect()
    }
}

fn contains(window: &Range<usize>, piece: &Range<usize>) -> bool {
    window.start <= piece.start && piece.end <= window.end
}

impl Pixels {
    fn new(
        geometry: &PatchGeometry,
        input: &Tensor<5>,
        (groups, lags): (usize, &[Vec<Lag>; 3]),
    ) -> Self {
        let [n, channels, d, h, w] = input.dims();
        // Cases and channels stay together: so this is one matrix turned over.
        let all = input.clone().permute([2, 3, 4, 0, 1]);
        let all = all.reshape([d, h, w, n * channels]);
        let phase = |phases: [usize; 3]| {
            let every = |axis: usize| {
                let step = geometry.axes[axis].step().cast_signed();
                Slice::new(phases[axis].cast_signed(), None, step)
            };
            let own = all.clone().slice([every(0), every(1), every(2)]);
            let [d, h, w, _] = own.dims();
            own.reshape([d, h, w * n, groups, channels / groups])
        };
        let along = |axis: usize| -> BTreeSet<usize> {
            let phases = lags[axis].iter().flat_map(|lag| lag.phases);
            phases.collect()
        };
        let [d, h, w] = [0, 1, 2].map(along);
        let rows = d.iter().flat_map(|&d| h.iter().map(move |&h| [d, h]));
        let phases = rows.flat_map(|[d, h]| w.iter().map(move |&w| [d, h, w]));
        Self {
            cases: n,
            phases: phases.map(|phases| (phases, phase(phases))).collect(),
        }
    }

    /// Adds the blocks of all pairs of offsets that some lags have, where the second is not before the
    /// first.
    fn add(&self, lags: [&Lag; 3], blocks: &mut OffsetBlocks) {
        let pairs = |axis: usize| lags[axis].pairs.iter();
        let first_axes = || pairs(0).flat_map(|p0| pairs(1).map(move |p1| [p0, p1]));
        let wanted = |p2: &Pair| {
            let place = |[p0, p1]: [&Pair; 2]| blocks.place([p0, p1, p2]);
            first_axes().any(|rows| place(rows).is_some())
        };
        let columns: Vec<&Pair> = pairs(2).filter(|pair| wanted(pair)).collect();
        if columns.is_empty() {
            return;
        }
        let pieces = self.products(lags);
        let rows = [lags[0].hull().start, lags[1].hull().start];
        for column in columns {
            let inside = pieces
                .iter()
                .filter(|(piece, _)| contains(&column.window, piece));
            let inside = inside.map(|(_, product)| product.clone());
            let Some(sum) = inside.reduce(|sum, product| sum + product) else {
                continue;
            };
            for [p0, p1] in first_axes() {
                if let Some(place) = blocks.place([p0, p1, column]) {
                    blocks.blocks[place] = Some(summed(&sum, [p0, p1], rows));
                }
            }
        }
    }

    /// The products at some distances for each piece of the width, each
    /// `[depth″, height″, groups, channels, channels]` over the pixels that any pair reads first.
    fn products(&self, lags: [&Lag; 3]) -> Vec<(Range<usize>, Tensor<5>)> {
        let side = |side: usize| &self.phases[&lags.map(|lag| lag.phases[side])];
        let (first, second) = (side(0), side(1));
        let n = self.cases;
        let read = |from: &Tensor<5>, piece: &Range<usize>, distances: [isize; 3]| {
            let along = [lags[0].hull(), lags[1].hull(), piece.clone()];
            let [d, h, w] = std::array::from_fn(|axis| {
                let at = |input: usize| (input.cast_signed() + distances[axis]).cast_unsigned();
                at(along[axis].start)..at(along[axis].end)
            });
            from.clone()
                .slice([d, h, w.start * n..w.end * n])
                .permute([0, 1, 3, 2, 4]) // [depth″, height″, groups, width″ · n, channels]
        };
        let product = |piece: Range<usize>| {
            let a = read(first, &piece, [0; 3]);
            let b = read(second, &piece, lags.map(|lag| lag.distance));
            (piece, a.swap_dims(3, 4).matmul(b))
        };
        lags[2].pieces().into_iter().map(product).collect()
    }
}

/// The sum of products over the windows of two pairs along the first axes, which start at `from`.
fn summed(products: &Tensor<5>, pairs: [&Pair; 2], from: [usize; 2]) -> Tensor<3> {
    let [d, h] = [0, 1].map(|axis| {
        let window = &pairs[axis].window;
        window.start - from[axis]..window.end - from[axis]
    });
    let [.., groups, channels, _] = products.dims();
    let rows = d.len() * h.len();
    let inside = products.clone().slice([d, h]);
    inside
        .reshape([rows, groups * channels * channels])
        .sum_dim(0)
        .reshape([groups, channels, channels])
}

impl OffsetBlocks {
    fn new(geometry: &PatchGeometry) -> Self {
        Self {
            kernel: geometry.axes.map(|axis| axis.kernel),
            blocks: vec![None; geometry.offsets() * geometry.offsets()],
        }
    }

    /// Where the block of some pairs along the axes is; `None` where the second offset is before the first.
    fn place(&self, pairs: [&Pair; 3]) -> Option<usize> {
        let offset = |side: usize| {
            let along = pairs.iter().zip(self.kernel);
            along.fold(0, |at, (pair, kernel)| at * kernel + pair.offsets[side])
        };
        let [first, second] = [0, 1].map(offset);
        let offsets: usize = self.kernel.iter().product();
        (first <= second).then_some(first * offsets + second)
    }

    /// The moment with `zeros` where no output reads at both offsets, its rows by channels and then by offsets: `[groups, channels · offsets, channels · offsets]`.
    fn moment(self, zeros: Tensor<3>) -> Tensor<3> {
        let [groups, channels, _] = zeros.dims();
        let offsets: usize = self.kernel.iter().product();
        let stored = |first: usize, second: usize| {
            let block = self.blocks[first * offsets + second].clone();
            block.unwrap_or_else(|| zeros.clone())
        };
        let all = (0..offsets).flat_map(|first| (0..offsets).map(move |second| (first, second)));
        let all = all.map(|(first, second)| {
            if first <= second {
                stored(first, second)
            } else {
                stored(second, first).swap_dims(1, 2)
            }
        });
        let elements = channels * offsets;
        Tensor::cat(all.collect(), 0)
            .reshape([offsets, offsets, groups, channels, channels])
            .permute([2, 3, 0, 4, 1])
            .reshape([groups, elements, elements])
    }
}
