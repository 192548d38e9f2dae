# SPDX-License-Identifier: Apache-2.0
"""A part of the image matrix; the whole of it is ``make image-matrix``."""

from cinder_vmdk_ext.tests.functional import image_matrix

CASES = (image_matrix.Case('raw', '1 MiB and a sector', 'paraVirtual',
                           'eagerZeroedThick', 0),
         image_matrix.Case('qcow2', 'one sector', 'ide', 'thin', 1),
         image_matrix.Case('OVA', '33 MiB and 3 sectors', 'lsiLogicsas',
                           'thick', 2))


class MatrixTestCase(image_matrix.MatrixCase):

    def test_images_go_there_and_back_as_the_page_says(self):
        page = image_matrix.PAGE.read_text()
        self.assertNotIn('Known gaps', page)
        for case in CASES:
            found = self.run_case(case)
            self.assertEqual('', found.wrong, case)
            self.assertIn(image_matrix.row(case.image, case.size,
                                           [found] * 15), page)

    def test_real_disks_go_there_and_back(self):
        if not image_matrix.REAL.is_dir():
            self.skipTest('the disks that vSphere exported are not there')
        for image in image_matrix.REAL_IMAGES:
            found = self.run_case(image_matrix.Case(
                image, image_matrix.REAL_SIZE, 'lsiLogic', 'thin', 0))
            self.assertEqual('', found.wrong, image)

    def test_another_content_is_noticed(self):
        case = CASES[0]
        volume = self.create(content=b'other')
        self.assertEqual('the image has another adapter', self.sent_back(
            volume, case, self.sum))
        self.assertEqual('the image has another content', self.sent_back(
            volume, case._replace(adapter='lsiLogic'), self.sum))
